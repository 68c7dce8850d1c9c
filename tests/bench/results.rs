//! The figures: collected, reduced to one for all rounds, printed, written to a file and read
//! again.

use crate::{Result, peers};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

pub const PATH: &str = "target/bench/results.tsv";

/// The figures of one metric of one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub measure: String,
    pub metric: String,
    pub unit: String,
    pub peer: String,
    /// One per round.
    pub values: Vec<f64>,
}

impl Row {
    pub fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// All rows, in the order in which they were first met.
#[derive(Default)]
pub struct Results {
    pub rows: Vec<Row>,
    pub rounds: usize,
    /// Where and when it was measured, as in the file.
    pub head: Vec<(String, String)>,
}

impl Results {
    pub fn new() -> Results {
        Results::default()
    }

    pub fn add(&mut self, measure: &str, metric: &str, unit: &str, peer: &str, value: f64) {
        let is_it =
            |row: &&mut Row| row.measure == measure && row.metric == metric && row.peer == peer;
        if let Some(row) = self.rows.iter_mut().find(is_it) {
            row.values.push(value);
            return;
        }
        let [measure, metric, unit, peer] = [measure, metric, unit, peer].map(Into::into);
        self.rows.push(Row { measure, metric, unit, peer, values: vec![value] });
    }

    pub fn row(&self, measure: &str, metric: &str, peer: &str) -> Option<&Row> {
        let is_it = |row: &&Row| row.measure == measure && row.metric == metric && row.peer == peer;
        self.rows.iter().find(is_it)
    }

    pub fn median(&self, measure: &str, metric: &str, peer: &str) -> Option<f64> {
        self.row(measure, metric, peer).map(Row::median)
    }

    /// The ratio to going's figure; none if that is 0, or for an exponent.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let own = self.median(&row.measure, &row.metric, "going")?;
        let is_one = own > 0.0 && own.is_finite() && !row.measure.starts_with("growth");
        is_one.then(|| row.median() / own)
    }

    /// The measures, in order.
    pub fn measures(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !found.contains(&row.measure.as_str()) {
                found.push(&row.measure);
            }
        }
        found
    }

    /// A table for each measure: a line for each peer, a figure and its ratio for each metric.
    pub fn print(&self) {
        for measure in self.measures() {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.measure == measure).collect();
            let mut metrics: Vec<(&str, &str)> = Vec::new();
            let mut peers: BTreeMap<usize, &str> = BTreeMap::new();
            for row in &rows {
                if !metrics.contains(&(&row.metric, &row.unit)) {
                    metrics.push((&row.metric, &row.unit));
                }
                let place = peers::PEERS.iter().position(|peer| peer.name == row.peer);
                peers.insert(place.unwrap_or(usize::MAX), &row.peer);
            }
            let mut text = format!("\n{measure}\n{:14}", "");
            for (metric, unit) in &metrics {
                let _fits = write!(text, "{:>13}{:>9}", format!("{metric} {unit}").trim(), "ratio");
            }
            for peer in peers.values() {
                let _fits = write!(text, "\n{peer:14}");
                for (metric, _) in &metrics {
                    let row = self.row(measure, metric, peer);
                    let value = row.map_or("-".into(), |row| figure(row.median()));
                    let ratio = row.and_then(|row| self.ratio(row)).map_or("-".into(), times);
                    let _fits = write!(text, "{value:>13}{ratio:>9}");
                }
            }
            println!("{text}");
        }
    }

    /// Tab-separated: the head as comments, then a line for each row.
    pub fn save(&self) -> Result<()> {
        let mut text = String::new();
        for (key, value) in head(self.rounds) {
            let _fits = writeln!(text, "# {key}\t{value}");
        }
        text.push_str("measure\tmetric\tunit\tpeer\tmedian\tratio\trounds\n");
        for row in &self.rows {
            let Row { measure, metric, unit, peer, values } = row;
            let ratio = self.ratio(row).map_or("-".into(), |ratio| format!("{ratio:.4}"));
            let values: Vec<_> = values.iter().map(|value| format!("{value:.4}")).collect();
            let (median, values) = (row.median(), values.join(" "));
            let row =
                format!("{measure}\t{metric}\t{unit}\t{peer}\t{median:.4}\t{ratio}\t{values}");
            let _fits = writeln!(text, "{row}");
        }
        peers::make_dir("target/bench".into())?;
        peers::write(PATH.as_ref(), &text)
    }

    /// Reads what was saved.
    pub fn load() -> Result<Results> {
        let text = fs::read_to_string(PATH);
        let text = text.map_err(|error| format!("{PATH}: {error}; make bench writes it"))?;
        let mut results = Results::new();
        for line in text.lines() {
            if let Some((key, value)) = line.strip_prefix("# ").and_then(|l| l.split_once('\t')) {
                results.head.push((key.into(), value.into()));
                continue;
            }
            let fields: Vec<_> = line.split('\t').collect();
            if let [measure, metric, unit, peer, _, _, values] = fields[..] {
                for value in values.split(' ').filter_map(|value| value.parse().ok()) {
                    results.add(measure, metric, unit, peer, value);
                }
            }
        }
        Ok(results)
    }

    /// The value of a line of the head.
    pub fn head(&self, key: &str) -> &str {
        self.head.iter().find(|(name, _)| name == key).map_or("?", |(_, value)| value)
    }
}

/// Where and when this is measured.
fn head(rounds: usize) -> Vec<(&'static str, String)> {
    let first = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = first("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = first("/proc/sys/kernel/osrelease");
    // A local suffix means nothing to others.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let date = output("date", &["-u", "+%Y-%m-%d"]);
    let load = first("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned();
    let versions = ["runit", "s6", "daemontools", "supervisor", "monit", "tini", "dumb-init"];
    let version = |name: &&str| {
        let version = output("dpkg-query", &["-W", "-f", "${Version}", name]);
        (!version.is_empty()).then(|| format!("{name} {version}"))
    };
    let mut packages: Vec<_> = versions.iter().filter_map(version).collect();
    packages.extend(["busybox", "busybox-static"].iter().filter_map(version));
    vec![
        ("date", date),
        ("machine", format!("{processors} x {}", model.unwrap_or("?").trim())),
        ("kernel", format!("Linux {kernel}")),
        ("load", load),
        ("rounds", rounds.to_string()),
        ("going", env!("CARGO_PKG_VERSION").into()),
        ("packages", packages.join(", ")),
    ]
}

fn output(command: &str, words: &[&str]) -> String {
    let output = Command::new(command).args(words).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// A figure with about three significant digits.
pub fn figure(value: f64) -> String {
    match value {
        value if value.is_infinite() => "never".into(),
        value if value == 0.0 || value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A ratio.
pub fn times(ratio: f64) -> String {
    if ratio.is_infinite() { "-".into() } else { format!("{}x", figure(ratio)) }
}

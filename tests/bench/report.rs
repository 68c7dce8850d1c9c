//! The report: the figures in README and in going(8), each between its marks, and in the chart.

use crate::Result;
use crate::peers::{PEERS, write as write_file};
use crate::results::{Results, figure, times};
use std::fmt::Write;
use std::fs;

const README: &str = "README.md";
const PAGE: &str = "man/going.8";
const CHART: &str = "man/comparison.svg";

/// Measure, metric, and their name in the report. There is room for few.
const CHOSEN: [(&str, &str, &str); 12] = [
    ("memory, 100 services", "processes", "processes"),
    ("memory, 100 services", "Pss", "memory (Pss)"),
    ("memory, 10 services with loggers", "Pss", "with 10 loggers"),
    ("restart latency, 100 services", "median", "restart, median"),
    ("restart latency, 100 services", "p99", "restart, p99"),
    ("cold start, 100 services", "all up", "start of 100"),
    ("cold start, 250 services", "all up", "start of 250"),
    ("mass death, 250 services", "all back", "death of 250"),
    ("idle, 100 services for 30 s", "context switches", "idle: switches"),
    ("crash storm, 20 services for 20 s", "spawns", "storm: spawns"),
    ("crash storm, 20 services for 20 s", "CPU", "storm: CPU"),
    ("growth, exponent of N", "Pss", "growth of Pss"),
];
/// The title of the table of loggers, and its rows.
const LINES: &str = "200 MB of log lines";
const CHOSEN_LINES: [(&str, &str, &str); 6] = [
    ("200 MB of lines, line by line", "all kept", "line by line: time"),
    ("200 MB of lines, line by line", "CPU", "line by line: CPU"),
    ("200 MB of lines, in blocks", "all kept", "in blocks: time"),
    ("200 MB of lines, in blocks", "CPU", "in blocks: CPU"),
    ("200 MB of lines, in blocks, stamped", "CPU", "in blocks, stamped: CPU"),
    ("200 MB of lines, in blocks", "lost or torn", "in blocks: lost or torn"),
];
const CHOSEN_PID1: [(&str, &str, &str); 4] = [
    ("10,000 orphans that have ended", "all reaped", "10,000 zombies"),
    ("10,000 orphans that end one by one", "all reaped", "10,000 orphans"),
    ("10,000 orphans that end one by one", "CPU", "their CPU"),
    ("TERM to PID 1, one command", "all gone", "TERM to gone"),
];
/// What the chart shows.
const CHARTED: [(&str, &str, &str); 4] = [
    ("memory, 100 services", "Pss", "Memory of the supervising processes, 100 services (Pss, kB)"),
    ("restart latency, 100 services", "median", "From kill(2) to the next process (median, us)"),
    ("cold start, 250 services", "all up", "Start of 250 services (ms)"),
    ("mass death, 250 services", "all back", "250 services killed, until all are back (ms)"),
];

/// Writes all three from target/bench/results.tsv.
pub fn write() -> Result<()> {
    let results = Results::load()?;
    replace(README, ["<!-- make bench-report: begin -->", "<!-- end -->"], &markdown(&results))?;
    replace(PAGE, [".\\\" make bench-report: begin", ".\\\" end"], &mdoc(&results))?;
    write_file(CHART.as_ref(), &svg(&results))?;
    eprintln!("bench: {README}, {PAGE}, {CHART}");
    Ok(())
}

/// Replaces what is between the two marks of a file by `text`.
fn replace(path: &str, marks: [&str; 2], text: &str) -> Result<()> {
    let old = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let [begin, end] = marks.map(|mark| format!("{mark}\n"));
    let parts = old.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or(format!("{path}: no {} and {}", marks[0], marks[1]))?;
    write_file(path.as_ref(), &format!("{before}{begin}{text}{end}{after}"))
}

/// The peers that were measured, in order.
fn peers_of(results: &Results, chosen: &[(&str, &str, &str)]) -> Vec<&'static str> {
    let names = PEERS.iter().map(|peer| peer.name);
    let has_any = |name: &&str| {
        chosen.iter().any(|(measure, metric, _)| results.row(measure, metric, name).is_some())
    };
    names.filter(has_any).collect()
}

/// The title of a table, if it has one, and its rows.
type Table = (&'static str, Vec<(&'static str, &'static str, &'static str)>);

/// The tables, with the rows that were measured.
fn tables(results: &Results) -> Vec<Table> {
    let mut tables =
        vec![("", CHOSEN.to_vec()), (LINES, CHOSEN_LINES.to_vec()), ("", CHOSEN_PID1.to_vec())];
    for (_, rows) in &mut tables {
        rows.retain(|(measure, metric, _)| results.row(measure, metric, "going").is_some());
    }
    tables.retain(|(_, rows)| !rows.is_empty());
    tables
}

/// The name of a metric with its unit.
fn label(results: &Results, (measure, metric, name): (&str, &str, &str)) -> String {
    let row = results.row(measure, metric, "going");
    match row.map(|row| row.unit.as_str()) {
        None | Some("") => name.into(),
        Some(unit) => format!("{name}, {unit}"),
    }
}

/// A peer's figure and, except for going's own, its ratio.
fn cells(results: &Results, measure: &str, metric: &str, peer: &str) -> Option<(String, String)> {
    let row = results.row(measure, metric, peer)?;
    let ratio = results.ratio(row).filter(|_| peer != "going");
    let ratio = ratio.map(times).filter(|ratio| ratio != "-").unwrap_or_default();
    Some((figure(row.median()), ratio))
}

/// Where and when it was measured, as a sentence.
fn place(results: &Results) -> String {
    let head = |key| results.head(key);
    let (machine, kernel, date) = (head("machine"), head("kernel"), head("date"));
    let (rounds, going) = (head("rounds"), head("going"));
    let rounds =
        if rounds == "1" { "one round".into() } else { format!("median of {rounds} rounds") };
    format!("going {going} on {machine}, {kernel}, {date}; {rounds}")
}

fn markdown(results: &Results) -> String {
    let mut text = format!(
        "{}, load {}.\nPackages of Debian: {}.\n",
        place(results),
        results.head("load"),
        results.head("packages")
    );
    for (title, chosen) in tables(results) {
        let peers = peers_of(results, &chosen);
        let (titles, columns) = (peers.join(" | "), "--:|".repeat(peers.len()));
        let title = if title.is_empty() { String::new() } else { format!(" {title}") };
        let _fits = write!(text, "\n|{title} | {titles} |\n|---|{columns}\n");
        for (measure, metric, name) in chosen {
            let _fits = write!(text, "| {} |", label(results, (measure, metric, name)));
            for peer in &peers {
                let cell = match cells(results, measure, metric, peer) {
                    None => String::new(),
                    Some((value, ratio)) if ratio.is_empty() => value,
                    Some((value, ratio)) => format!("{value} ({ratio})"),
                };
                let _fits = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }
    text
}

/// For the manual page, which is narrow: going and its peers, without the floor and without ratios.
/// Columns are as wide as their contents.
fn mdoc(results: &Results) -> String {
    let mut text = format!("{}.\n", place(results).replace("; ", ";\n"));
    for (title, chosen) in tables(results) {
        let mut peers = peers_of(results, &chosen);
        peers.retain(|peer| *peer != "floor");
        let mut lines = vec![vec![title.to_owned()]];
        lines[0].extend(peers.iter().map(|peer| format!("{peer:.8}")));
        for (measure, metric, name) in chosen {
            let label = label(results, (measure, metric, name));
            let mut line = vec![label.replace("median", "med.").replace(", ", " ")];
            line.extend(peers.iter().map(|peer| {
                let cell = cells(results, measure, metric, peer);
                cell.map_or("\\-".into(), |(value, _)| value)
            }));
            lines.push(line);
        }
        let longest = |column: usize| {
            let cells = lines.iter().map(|line| line[column].as_str());
            format!("\"{}\"", cells.max_by_key(|cell| cell.len()).unwrap_or_default())
        };
        let widths: Vec<_> = (0..=peers.len()).map(longest).collect();
        let _fits = writeln!(text, ".Bl -column {}", widths.join(" "));
        for line in lines {
            let _fits =
                writeln!(text, "{}", format!(".It {}", line.join(" Ta ")).replace("  ", " "));
        }
        text.push_str(".El\n");
    }
    text
}

/// Bars, on a logarithmic scale, because otherwise only the longest could be seen.
fn svg(results: &Results) -> String {
    let (full, left, bar, line) = (720, 110, 500.0, 18);
    let mut body = String::new();
    let mut y = 24;
    let mut put = |text: String| body.push_str(&text);
    for (measure, metric, title) in CHARTED {
        put(format!("<text x=\"10\" y=\"{y}\" class=\"title\">{title}</text>\n"));
        y += 8;
        let rows: Vec<_> = PEERS
            .iter()
            .filter_map(|peer| Some((peer.name, results.median(measure, metric, peer.name)?)))
            .filter(|(_, value)| value.is_finite() && *value > 0.0)
            .collect();
        let logs = || rows.iter().map(|(_, value)| value.log10());
        let (low, high) = (logs().fold(f64::MAX, f64::min) - 0.15, logs().fold(f64::MIN, f64::max));
        for (name, value) in &rows {
            let width = bar * (value.log10() - low) / (high - low).max(0.1);
            let (base, end) = (y + 13, f64::from(left) + width + 4.0);
            put(format!(
                "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\n\
                 <rect x=\"{left}\" y=\"{}\" width=\"{width:.1}\" height=\"12\" \
                 class=\"{name}\"/>\n\
                 <text x=\"{end:.1}\" y=\"{base}\">{}</text>\n",
                left - 6,
                y + 3,
                figure(*value)
            ));
            y += line;
        }
        y += 24;
    }
    put(format!(
        "<text x=\"10\" y=\"{y}\">Logarithmic. {}.</text>\n",
        place(results).replace('&', "and")
    ));
    let height = y + 12;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} {height}\" \
         width=\"{full}\" height=\"{height}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #222 }} .title {{ font-weight: bold }}\n\
         rect {{ fill: #9ab }} .paper {{ fill: #fff }}\n\
         .going {{ fill: #d62 }} .floor {{ fill: #ddd }}\n\
         </style>\n<rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n{body}</svg>\n"
    )
}

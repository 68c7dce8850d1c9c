//! The table of services for people.
//!
//! Columns are separated by at least two spaces. On a terminal that is too narrow for all of them,
//! the least important ones are left out first, and lines that are still too long are cut.

use crate::amounts;
use crate::output::visible;
use crate::rows::Row;
use crate::terminal;
use unicode_width::UnicodeWidthChar;

/// The columns, in order: the heading, when the column is left out (the lowest number first, 0
/// never), and whether it holds numbers.
const COLUMNS: [(&str, u8, bool); 10] = [
    ("NAME", 0, false),
    ("STATE", 0, false),
    ("PID", 6, true),
    ("FOR", 8, true),
    ("RESTARTS", 4, true),
    ("CPU", 2, true),
    ("MEMORY", 3, true),
    ("TASKS", 1, true),
    ("LAST END", 7, false),
    ("COMMAND", 5, false),
];
/// The fewest characters of the command that are still of use.
const COMMAND_MIN: usize = 16;
const GAP: usize = 2;

type Cells = [String; 10];

/// The lines of the table, made to fit the terminal; the first is the headings.
pub fn lines(rows: &[Row]) -> Vec<String> {
    let columns = terminal::size().map(|(columns, _)| columns);
    let has_colours = terminal::has_colours();
    let header = COLUMNS.map(|(title, ..)| title.to_owned());
    let cells: Vec<_> = rows.iter().map(cells).collect();
    let width = |index: usize| {
        let lengths = cells.iter().chain([&header]).filter_map(|cells| cells.get(index));
        lengths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let shown = shown(&widths, columns);
    let line = |cells: &Cells| line(cells, &shown, &widths, columns);
    let mut lines = vec![line(&header)];
    for (row, cells) in rows.iter().zip(&cells) {
        let text = line(cells);
        lines.push(if has_colours { coloured(&text, row, &widths) } else { text });
    }
    lines
}

fn cells(row: &Row) -> Cells {
    let (service, usage) = (row.service, row.usage.as_ref());
    let held = if service.held { ", held" } else { "" };
    let mut end = service.end.as_ref().map(amounts::end);
    if let Some(next_in_ms) = row.next_in_ms {
        let next = format!("next start in {}", amounts::duration(next_in_ms.saturating_add(999)));
        end = Some(end.map_or_else(|| next.clone(), |end| format!("{end}; {next}")));
    }
    let or_dash = |text: Option<String>| visible(&text.unwrap_or_else(|| "-".to_owned()));
    [
        visible(&service.name),
        visible(&format!("{}{held}", service.state)),
        or_dash(service.pid.map(|pid| pid.to_string())),
        or_dash(row.for_ms.map(amounts::duration)),
        or_dash(service.restarts().map(|restarts| restarts.to_string())),
        or_dash(usage.map(|usage| amounts::cpu(usage.cpu_ms))),
        or_dash(usage.map(|usage| amounts::memory(usage.memory_kb))),
        or_dash(usage.map(|usage| usage.tasks.to_string())),
        or_dash(end),
        or_dash(row.command.clone()),
    ]
}

/// Which columns there is room for.
fn shown(widths: &[usize], columns: Option<usize>) -> Vec<bool> {
    let mut shown = vec![true; widths.len()];
    let needs = |shown: &[bool]| {
        let needed = widths.iter().zip(&COLUMNS).zip(shown).filter(|(_, is_shown)| **is_shown);
        let needed = needed.map(|((width, (title, ..)), _)| {
            let is_command = *title == "COMMAND";
            GAP.saturating_add(if is_command { (*width).min(COMMAND_MIN) } else { *width })
        });
        needed.sum::<usize>().saturating_sub(GAP)
    };
    for turn in 1..=8 {
        if columns.is_none_or(|columns| needs(&shown) <= columns) {
            break;
        }
        for (is_shown, (_, goes, _)) in shown.iter_mut().zip(&COLUMNS) {
            *is_shown &= *goes != turn;
        }
    }
    shown
}

fn line(cells: &Cells, shown: &[bool], widths: &[usize], columns: Option<usize>) -> String {
    let mut line = String::new();
    for ((cell, (_, _, is_number)), (width, _)) in
        cells.iter().zip(&COLUMNS).zip(widths.iter().zip(shown)).filter(|(_, (_, shown))| **shown)
    {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let padded = if *is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        line.push_str(&padded);
    }
    cut(line.trim_end(), columns)
}

/// The text, cut if it is wider than `columns`.
pub fn cut(text: &str, columns: Option<usize>) -> String {
    let columns = columns.unwrap_or(usize::MAX);
    if text.chars().map(width).sum::<usize>() <= columns {
        return text.to_owned();
    }
    // One column is for the ellipsis.
    let mut room = columns.saturating_sub(1);
    let is_fitting = |char: &char| {
        let left = room.checked_sub(width(*char));
        room = left.unwrap_or(room);
        left.is_some()
    };
    text.chars().take_while(is_fitting).chain(['…']).collect()
}

/// How many columns of a terminal a character takes.
fn width(char: char) -> usize {
    char.width().unwrap_or(0)
}

/// The line with its state in colour: that is the second column, which is never left out.
fn coloured(line: &str, row: &Row, widths: &[usize]) -> String {
    let style = terminal::style(&row.service.state, row.service.held);
    let name = widths.first().copied().unwrap_or(0).saturating_add(GAP);
    let state = widths.get(1).copied().unwrap_or(0);
    let before: String = line.chars().take(name).collect();
    let shown: String = line.chars().skip(name).take(state).collect();
    let behind: String = line.chars().skip(name.saturating_add(state)).collect();
    format!("{before}{style}{shown}{style:#}{behind}")
}

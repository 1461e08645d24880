//! A suite's figures as a Markdown table.

use std::fmt::Write as _;

use crate::{
    measure::median,
    report::{Report, Row, Target},
};

/// One row per figure: cqi, then each bare peer with cqi's figure as a multiple of it, then the target.
pub(crate) fn render(report: &Report) -> String {
    let mut peers = Vec::new();
    for (peer, _) in report.rows.iter().flat_map(|row| &row.peers) {
        if !peers.contains(peer) {
            peers.push(*peer);
        }
    }
    // The order of the first round; cqi in front.
    peers.sort_by_key(|peer| *peer != "cqi");
    let mut table = format!("\n### {}\n\n| case | payload | unit |", report.suite.title());
    for peer in &peers {
        let _ = write!(table, " {peer} |");
    }
    table.push_str(" target | met |\n|---|--:|---|");
    table.push_str(&"--:|".repeat(peers.len()));
    table.push_str("---|---|\n");
    for row in report.rows.iter().filter(|row| !row.peers.is_empty()) {
        let _ = write!(table, "| {} | {} | {} |", row.case, size(row.payload), row.unit);
        for peer in &peers {
            let _ = write!(table, " {} |", cell(row, peer));
        }
        let target = row.target.map_or(String::new(), |target| target.to_string());
        let _ = writeln!(
            table,
            " {target} | {} |",
            row.target.map_or("", |target| met(row, target))
        );
    }
    table.push_str("\nA figure is the median of the rounds ± half their spread; `0.50x` beside a peer: cqi's figure is half of it.\n");
    table.push_str("`/s`: more is better; all other units: less is better.\n");
    for note in &report.notes {
        let _ = writeln!(table, "- {note}");
    }
    table
}

fn size(payload: usize) -> String {
    if payload == 0 {
        "-".to_owned()
    } else {
        payload.to_string()
    }
}

fn figure(row: &Row, peer: &str) -> Option<f64> {
    let (_, samples) = row.peers.iter().find(|(name, _)| *name == peer)?;
    Some(median(samples))
}

fn cell(row: &Row, peer: &str) -> String {
    let Some((_, samples)) = row.peers.iter().find(|(name, _)| *name == peer) else {
        return String::new();
    };
    let value = median(samples);
    let mut cell = short(value);
    if peer != "cqi"
        && value > 0.0
        && let Some(cqi) = figure(row, "cqi")
    {
        let _ = write!(cell, " **{:.2}x**", cqi / value);
    }
    let (least, most) = samples
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), sample| {
            (least.min(*sample), most.max(*sample))
        });
    if samples.len() > 1 && value > 0.0 {
        let _ = write!(cell, " ±{:.0}%", (most - least) / 2.0 / value * 100.0);
    }
    cell
}

fn met(row: &Row, target: Target) -> &'static str {
    let Some(cqi) = figure(row, "cqi") else { return "" };
    let holds = match target {
        Target::AtLeast(times, peer) => figure(row, peer).map(|bare| cqi >= times * bare),
        Target::AtMost(times, peer) => figure(row, peer).map(|bare| cqi <= times * bare),
        Target::Over(more, peer) => figure(row, peer).map(|bare| cqi <= bare + more),
        Target::Below(most) => Some(cqi <= most),
        Target::Above(least) => Some(cqi >= least),
    };
    match holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cqi: &[f64], bare: &[f64]) -> Row {
        Row {
            case: "c".to_owned(),
            payload: 256,
            unit: "op/s",
            peers: vec![("bare", bare.to_vec()), ("cqi", cqi.to_vec())],
            target: None,
        }
    }

    #[test]
    fn cells_show_median_ratio_and_spread() {
        let row = row(&[90.0, 100.0, 110.0], &[200.0]);
        assert_eq!(
            (cell(&row, "cqi"), cell(&row, "bare")),
            ("100 ±10%".into(), "200 **0.50x**".into())
        );
        assert_eq!(cell(&row, "other"), "");
    }

    #[test]
    fn targets_compare_medians() {
        let row = row(&[100.0], &[200.0]);
        assert_eq!(met(&row, Target::AtLeast(0.5, "bare")), "yes");
        assert_eq!(met(&row, Target::AtLeast(0.51, "bare")), "NO");
        assert_eq!(met(&row, Target::AtMost(0.5, "bare")), "yes");
        assert_eq!(met(&row, Target::Over(-101.0, "bare")), "NO");
        assert_eq!(met(&row, Target::Below(100.0)), "yes");
        assert_eq!(met(&row, Target::Above(100.5)), "NO");
        assert_eq!(met(&row, Target::AtLeast(0.5, "absent")), "");
    }
}

//! The rows, as a table for people and as JSON for tools.

use serde::Serialize;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    /// Bytes of payload in each message.
    pub(crate) size: usize,
    /// Where our handler ran, on both sides the same.
    pub(crate) placement: &'static str,
    /// The median over the rounds.
    pub(crate) ours: f64,
    /// The median over the rounds.
    pub(crate) peer: f64,
    pub(crate) peer_name: String,
    pub(crate) unit: &'static str,
    /// The median of the rounds' ratios; above 1 is better for us, whatever the unit.
    pub(crate) ratio: f64,
    /// The least and the greatest ratio of a round.
    pub(crate) spread: [f64; 2],
}

impl Row {
    /// Of the figures of each round, ours and the peer's.
    pub(crate) fn figures(&mut self, rounds: &[(f64, f64)], more_is_better: bool) {
        let ratio = |(ours, peer): &(f64, f64)| match more_is_better {
            true => ours / peer,
            false => peer / ours,
        };
        let ratios: Vec<f64> = rounds.iter().map(ratio).collect();
        self.ours = median(rounds.iter().map(|round| round.0));
        self.peer = median(rounds.iter().map(|round| round.1));
        self.ratio = median(ratios.iter().copied());
        self.spread = [
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
    }
}

/// The median; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// The table for people, with a line of heads.
pub(crate) fn table(rows: &[Row]) -> String {
    let heads = ["case", "size", "placement", "unit", "ours", "peer", "", "ratio", "rounds"];
    let mut cells = vec![heads.map(str::to_owned)];
    for row in rows {
        cells.push([
            row.case.clone(),
            size(row.size),
            row.placement.into(),
            row.unit.into(),
            number(row.ours),
            number(row.peer),
            row.peer_name.clone(),
            format!("{:.2}", row.ratio),
            format!("{:.2}–{:.2}", row.spread[0], row.spread[1]),
        ]);
    }
    let width = |at: usize| cells.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let right = [false, true, false, false, true, true, false, true, true];
    let mut text = String::new();
    for line in &cells {
        for ((cell, width), right) in line.iter().zip(widths).zip(right) {
            match right {
                true => text.push_str(&format!("{cell:>width$}  ")),
                false => text.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// `4096` as `4 KiB`.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// With spaces between thousands.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "?".into();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.as_bytes()[at - 1] != b'-' {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_for_us_whatever_the_unit() {
        let mut row = Row {
            case: "stream".into(),
            size: 64,
            placement: "Inline",
            ours: 0.0,
            peer: 0.0,
            peer_name: "raw".into(),
            unit: "messages/s",
            ratio: 0.0,
            spread: [0.0; 2],
        };
        row.figures(&[(200.0, 100.0), (300.0, 100.0), (100.0, 100.0)], true);
        assert_eq!((row.ours, row.peer, row.ratio, row.spread), (200.0, 100.0, 2.0, [1.0, 3.0]));
        row.figures(&[(200.0, 100.0)], false);
        assert_eq!(row.ratio, 0.5, "twice the time is half as good");
        let text = table(&[row]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("64 B") && text.contains("0.50"), "{text}");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([number(1.0), number(1234.4), number(1e6)], ["1", "1 234", "1 000 000"]);
        assert_eq!(median([3.0, 1.0, 2.0, 10.0]), 2.5);
    }
}

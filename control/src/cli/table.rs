//! Aligned columns for people: a header, two blanks between columns, numbers to the right.

/// Characters of a cell: one hostile label must not push every other column off the screen. `--json` has it whole.
const CELL: usize = 120;

fn cut(cell: String) -> String {
    match cell.char_indices().nth(CELL) {
        Some((at, _)) => format!("{}...", &cell[..at]),
        None => cell,
    }
}

/// A table under construction.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| (*h).to_owned()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(cut).into());
    }

    /// The text, one line a row; `nothing` in place of a table without rows.
    pub(super) fn finish(&self, nothing: &str) -> String {
        let Some((header, body)) = self.rows.split_first().filter(|(_, body)| !body.is_empty()) else {
            return format!("{nothing}\n");
        };
        let column = |n: usize| self.rows.iter().filter_map(move |row| row.get(n));
        let widths: Vec<usize> =
            (0..header.len()).map(|n| column(n).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        let is_number = |n: usize| body.iter().filter_map(|row| row.get(n)).all(|c| c.parse::<f64>().is_ok());
        let right: Vec<bool> = (0..header.len()).map(is_number).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) = if *right { (gap.as_str(), "") } else { ("", gap.as_str()) };
                line.extend([before, cell, after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_words_left() {
        let mut table = Table::new(&["NAME", "COUNT", "NOTE"]);
        table.row(["a".into(), "7".into(), "".into()]);
        table.row(["longer".into(), "1234567".into(), "x".into()]);
        assert_eq!(table.finish("none"), "NAME      COUNT  NOTE\na             7\nlonger  1234567  x\n");
        assert_eq!(Table::new(&["A"]).finish("no rows"), "no rows\n");
    }

    #[test]
    fn a_long_cell_is_cut_and_says_so() {
        let mut table = Table::new(&["LABEL", "REASON"]);
        table.row(["\u{e9}".repeat(300), "why".into()]);
        let text = table.finish("none");
        assert!(text.lines().all(|line| line.chars().count() < 140) && text.contains("...  why"), "{text}");
    }
}

//! Words for sentences: the known word nearest to a mistyped one, quotations that are short, counts.

/// Words longer than this are not compared: the table of distances grows with the square.
const LONGEST: usize = 64;

/// The longest quotation, characters.
const QUOTED: usize = 48;

/// The candidate that the fewest slips of the finger turn into `word`, if those are at most a third of its letters.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    let distances = candidates.map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, near)| near)
}

/// Letters inserted, deleted, replaced, or exchanged with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let before = |up: usize, left: usize| {
                rows.get(i - up).and_then(|row| row.get(j - left)).copied().unwrap_or(usize::MAX - 1)
            };
            let same = a.get(i - 1) == b.get(j - 1);
            let replaced = before(1, 1) + usize::from(!same);
            let inserted = row.last().copied().unwrap_or_default() + 1;
            let exchanged = i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1);
            let swap = if exchanged { before(2, 2) + 1 } else { usize::MAX };
            row.push(replaced.min(inserted).min(before(1, 0) + 1).min(swap));
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

/// A text that somebody wrote, without control characters and short enough for a sentence.
pub(crate) fn short(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED).is_some() { format!("{cut}...") } else { cut }
}

/// `1 core`, `2 cores`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_key_and_another_word_finds_none() {
        let keys = ["interface", "addresses", "mode", "mac"];
        assert_eq!(nearest("interfce", keys.into_iter()), Some("interface"));
        assert_eq!(nearest("address", keys.into_iter()), Some("addresses"));
        assert_eq!(nearest("mod", keys.into_iter()), Some("mode"));
        assert_eq!(nearest("maode", keys.into_iter()), Some("mode"));
        assert_eq!(nearest("mdoe", keys.into_iter()), Some("mode"));
        assert_eq!(nearest("colour", keys.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(1000), keys.into_iter()), None);
    }
}

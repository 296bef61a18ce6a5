//! Answers that are known, and questions that failed, bounded in octets. Time is an argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache as Store;

use super::known::{Known, Outcome};
use super::question::Question;

/// Octets of everything that is kept, about.
const OCTETS: u64 = 64 << 20;
/// Answers for which room is made at first.
const ENTRIES: usize = 4096;
/// How long a question that failed is not asked again (RFC 9520 section 3.2: at least a second).
const FAILURE: Duration = Duration::from_secs(5);

/// What is known of a question.
#[derive(Clone, Debug)]
struct Entry {
    known: Option<Arc<Known>>,
    /// It failed, and is not asked before this.
    retry_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Octets;

impl Weighter<Question, Entry> for Octets {
    fn weight(&self, question: &Question, entry: &Entry) -> u64 {
        (question.octets() + size_of::<Entry>() + entry.known.as_ref().map_or(0, |known| known.octets())) as u64
    }
}

/// What a look says.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// It may be told.
    Fresh(Arc<Known>),
    /// It was asked a moment ago, and nobody answered: what there is of old, if anything.
    Failed(Option<Arc<Known>>),
    /// It is to be asked; what there is of old, if anything.
    Missing(Option<Arc<Known>>),
}

/// The answers.
#[derive(Debug)]
pub(super) struct Cache(Store<Question, Entry, Octets>);

impl Default for Cache {
    fn default() -> Self {
        Self(Store::with_weighter(ENTRIES, OCTETS, Octets))
    }
}

impl Cache {
    pub(super) fn look(&self, question: &Question, now: Instant) -> Found {
        let Some(Entry { known, retry_at }) = self.0.get(question) else { return Found::Missing(None) };
        let known = known.filter(|known| known.is_usable(now));
        match known {
            Some(known) if known.is_fresh(now) => Found::Fresh(known),
            known if retry_at.is_some_and(|at| now < at) => Found::Failed(known),
            known => Found::Missing(known),
        }
    }

    /// Remembers what became of a question.
    pub(super) fn note(&self, question: &Question, outcome: &Outcome, now: Instant) {
        let entry = match outcome {
            Outcome::Known(known) if known.is_lasting() => Entry { known: Some(Arc::clone(known)), retry_at: None },
            Outcome::Known(_) => {
                self.0.remove(question);
                return;
            }
            Outcome::Failed => {
                let known = self.0.peek(question).and_then(|entry| entry.known);
                Entry { known: known.filter(|known| known.is_usable(now)), retry_at: Some(now + FAILURE) }
            }
        };
        self.0.insert(question.clone(), entry);
    }

    /// Questions of which something is known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::forward::known::tests::known;
    use crate::dns::forward::tests::asked;

    fn question(name: &str) -> Question {
        Question::read(&asked(name, 1)).unwrap()
    }

    #[test]
    fn an_answer_is_fresh_for_its_ttl_and_kept_for_a_day() {
        let cache = Cache::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let web = question("web.org");
        assert!(matches!(cache.look(&web, begin), Found::Missing(None)));
        cache.note(&web, &Outcome::Known(Arc::new(known(300, begin))), begin);
        assert!(matches!(cache.look(&question("WEB.org"), at(299)), Found::Fresh(_)));
        assert!(matches!(cache.look(&web, at(300)), Found::Missing(Some(_))));
        cache.note(&web, &Outcome::Failed, at(300));
        assert!(matches!(cache.look(&web, at(304)), Found::Failed(Some(_))));
        assert!(matches!(cache.look(&web, at(305)), Found::Missing(Some(_))), "asked again");
        assert!(matches!(cache.look(&web, at(300 + 86_400)), Found::Missing(None)));
        cache.note(&web, &Outcome::Known(Arc::new(known(0, begin))), at(400));
        assert!(matches!(cache.look(&web, at(400)), Found::Missing(None)), "TTL 0 is for one transaction");
        cache.note(&web, &Outcome::Failed, at(500));
        assert!(matches!(cache.look(&web, at(501)), Found::Failed(None)));
    }

    #[test]
    fn however_many_names_are_asked_memory_is_bounded() {
        let cache = Cache::default();
        let now = Instant::now();
        let long = Arc::new(known(300, now));
        for n in 0..400_000 {
            cache.note(&question(&format!("n{n}.org")), &Outcome::Known(Arc::clone(&long)), now);
        }
        assert!(cache.0.weight() <= OCTETS && cache.len() > 10_000, "{} {}", cache.0.weight(), cache.len());
    }
}

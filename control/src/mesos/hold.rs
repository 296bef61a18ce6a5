//! What a new master does not know yet: a failover takes no name and no backend away.
//!
//! A master that has just begun to lead knows agents and their tasks as they register again, which takes minutes. Until an
//! agent has, what the master before said of it stays: its tasks, their frameworks, the agent itself. It ends when the agent
//! is back (its tasks are then those that it brings), when the master has given it up (it was waiting for it, and no longer
//! is), or after a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::facts::{Agent, Facts, Framework, Task};

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Agents that are not back, and whether the master is known to wait for them.
    waiting: BTreeMap<String, bool>,
    until: Duration,
    agents: BTreeMap<String, Arc<Agent>>,
    frameworks: Vec<Arc<Framework>>,
    tasks: Vec<Arc<Task>>,
    /// Tasks that could not be read this time.
    unread: Vec<Arc<Task>>,
}

impl Hold {
    /// A whole state came, after `known`. Whether something is held that was not before.
    pub(super) fn begin(&mut self, now: Duration, limit: Duration, known: &Facts, new: &Facts) -> bool {
        let named: BTreeSet<(&str, &str)> = new.tasks.iter().map(key).collect();
        let unread = known.tasks.iter().filter(|t| new.unread.covers(t) && !named.contains(&key(t)));
        self.unread = unread.cloned().collect();
        self.frameworks.clone_from(&known.frameworks);
        if known.master.is_some() && known.master == new.master {
            return false;
        }
        let missing = known.agents.keys().filter(|id| !new.agents.contains_key(*id));
        self.waiting = missing.map(|id| (id.clone(), false)).collect();
        self.until = now + limit;
        self.agents.clone_from(&known.agents);
        self.tasks = known.tasks.iter().filter(|t| self.waiting.contains_key(&t.agent)).cloned().collect();
        !self.waiting.is_empty()
    }

    /// What is known, with what is held.
    pub(super) fn fill(&mut self, now: Duration, mut facts: Facts) -> Facts {
        self.settle(now, &facts);
        let named: BTreeSet<(&str, &str)> = facts.tasks.iter().map(key).collect();
        let held = self.tasks.iter().filter(|t| self.waiting.contains_key(&t.agent));
        let unread = self.unread.iter().filter(|t| facts.unread.covers(t));
        let kept: Vec<Arc<Task>> = held.chain(unread).filter(|t| !named.contains(&key(t))).cloned().collect();
        let back = self.waiting.keys().filter_map(|id| Some((id.clone(), Arc::clone(self.agents.get(id)?))));
        facts.agents.extend(back);
        facts.recovered.extend(self.waiting.keys().cloned());
        let there: BTreeSet<&str> = facts.frameworks.iter().map(|f| f.id.as_str()).collect();
        let wanted: BTreeSet<&str> = kept.iter().chain(&facts.tasks).map(|t| t.framework.as_str()).collect();
        let missing =
            self.frameworks.iter().filter(|f| !there.contains(f.id.as_str()) && wanted.contains(f.id.as_str()));
        let missing: Vec<Arc<Framework>> = missing.cloned().collect();
        facts.frameworks.extend(missing);
        facts.tasks.extend(kept);
        facts
    }

    /// How many agents are waited for.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When waiting ends at the latest, while there is any.
    pub(super) fn until(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(self.until)
    }

    fn settle(&mut self, now: Duration, facts: &Facts) {
        let over = now >= self.until;
        self.waiting.retain(|id, is_expected| {
            let given_up = *is_expected && !facts.recovered.contains(id);
            *is_expected |= facts.recovered.contains(id);
            !over && !given_up && !facts.agents.contains_key(id)
        });
    }
}

fn key(task: &Arc<Task>) -> (&str, &str) {
    (&task.framework, &task.id)
}

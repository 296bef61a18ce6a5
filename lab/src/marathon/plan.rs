//! What to start and what to kill so that an app gets where its definition says: a pure function of what there is.
//!
//! Rolling upgrade by Marathon's `upgradeStrategy`: never more than `instances * (1 + maximumOverCapacity)` tasks, never
//! fewer than `instances * minimumHealthCapacity` ready ones, old ones going as new ones become ready.

/// One task, as far as the plan cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) instance: String,
    /// Started from the definition that holds now.
    pub(crate) current: bool,
    /// Running, and healthy if it has health checks.
    pub(crate) ready: bool,
    /// Told to end already.
    pub(crate) killing: bool,
}

/// What an app is to have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    pub(crate) instances: usize,
    pub(crate) min_health: f64,
    pub(crate) max_over: f64,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    pub(crate) launch: usize,
    pub(crate) kill: Vec<String>,
    /// Everything is as the definition says.
    pub(crate) done: bool,
}

/// `present` is in order of start: the youngest are killed first.
pub(crate) fn plan(target: Target, present: &[Present]) -> Plan {
    let wanted = target.instances;
    let alive: Vec<&Present> = present.iter().filter(|task| !task.killing).collect();
    let new: Vec<&Present> = alive.iter().copied().filter(|task| task.current).collect();
    let old: Vec<&Present> = alive.iter().copied().filter(|task| !task.current).collect();
    let ready = new.iter().filter(|task| task.ready).count().min(wanted);

    let surplus = new.len().saturating_sub(wanted);
    let mut kill: Vec<String> = new.iter().rev().take(surplus).map(|task| task.instance.clone()).collect();
    let old_to_keep = if ready == wanted { 0 } else { share(wanted, target.min_health).saturating_sub(ready) };
    let retire = old.len().saturating_sub(old_to_keep);
    kill.extend(old.iter().take(retire).map(|task| task.instance.clone()));

    let missing = wanted.saturating_sub(new.len());
    let ceiling = if old.is_empty() { wanted } else { ceiling(target) };
    let room = ceiling.saturating_sub(alive.len() - kill.len());
    let launch = missing.min(room);
    let settled = launch == 0 && kill.is_empty() && old.is_empty() && alive.len() == present.len();
    Plan { launch, done: settled && missing == 0 && ready == wanted, kill }
}

fn share(instances: usize, part: f64) -> usize {
    (instances as f64 * part.clamp(0.0, 1.0)).ceil() as usize
}

/// At least one more than wanted when all of the old ones must stay, or nothing would ever move.
fn ceiling(target: Target) -> usize {
    let over = (target.instances as f64 * target.max_over.clamp(0.0, 1.0)).floor() as usize;
    let stuck = share(target.instances, target.min_health) >= target.instances;
    target.instances + if stuck { over.max(1) } else { over }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(instance: &str, current: bool, ready: bool) -> Present {
        Present { instance: instance.to_owned(), current, ready, killing: false }
    }

    fn target(instances: usize) -> Target {
        Target { instances, min_health: 1.0, max_over: 1.0 }
    }

    #[test]
    fn scaling_up_starts_what_is_missing_and_scaling_down_kills_the_youngest() {
        let two = [task("a", true, true), task("b", true, true)];
        assert_eq!(plan(target(5), &two), Plan { launch: 3, kill: vec![], done: false });
        assert_eq!(plan(target(1), &two), Plan { launch: 0, kill: vec!["b".to_owned()], done: false });
        assert_eq!(plan(target(2), &two), Plan { launch: 0, kill: vec![], done: true });
    }

    #[test]
    fn a_restart_keeps_every_old_task_until_a_new_one_is_ready() {
        let mut tasks = vec![task("old1", false, true), task("old2", false, true)];
        assert_eq!(plan(target(2), &tasks), Plan { launch: 2, kill: vec![], done: false });
        tasks.extend([task("new1", true, true), task("new2", true, false)]);
        assert_eq!(plan(target(2), &tasks), Plan { launch: 0, kill: vec!["old1".to_owned()], done: false });
    }

    #[test]
    fn without_room_above_a_restart_of_one_instance_still_moves() {
        let target = Target { instances: 1, min_health: 1.0, max_over: 0.0 };
        assert_eq!(plan(target, &[task("old", false, true)]).launch, 1);
    }

    #[test]
    fn a_task_that_is_being_killed_counts_neither_as_there_nor_as_done() {
        let killing = Present { killing: true, ..task("a", true, true) };
        assert_eq!(plan(target(1), std::slice::from_ref(&killing)).launch, 1);
        assert!(!plan(target(0), &[killing]).done);
    }
}

//! Sluice's own labels: of the port that carries the VIP label, else of the app (design.md section 4). One that cannot be
//! read is listed, and what holds instead is said.

use sluice_config::model::{AllowGroups, Mode};
use sluice_config::nearest;

use super::{Report, health};
use crate::rejected::Rejected;
use crate::view::{Task, TaskPort};

/// Of whom isolation goes by.
pub(crate) const GROUPS: &str = "SLUICE_GROUPS";
const WEIGHT: &str = "SLUICE_WEIGHT";
const MODE: &str = "SLUICE_MODE";
const ALLOW_GROUPS: &str = "SLUICE_ALLOW_GROUPS";

/// All of them.
const KNOWN: [&str; 5] = [WEIGHT, MODE, ALLOW_GROUPS, health::KEY, GROUPS];

/// Why a label that begins like Sluice's own is none of them; `None` for one that is, and for others' labels.
pub(crate) fn unknown(key: &str) -> Option<String> {
    let own = key.get(..7).is_some_and(|k| k.eq_ignore_ascii_case("SLUICE_"));
    if !own || KNOWN.contains(&key) {
        return None;
    }
    let upper = key.to_ascii_uppercase();
    let meant = KNOWN.iter().find(|known| **known == upper).copied().or_else(|| nearest(&upper, KNOWN.into_iter()));
    let meant = meant.map_or_else(|| format!("there are {}", KNOWN.join(", ")), |near| format!("did you mean {near}?"));
    Some(format!("no label of Sluice's: {meant}"))
}

/// Largest `SLUICE_WEIGHT`.
const WEIGHT_MAX: u16 = 1000;
/// Longest group name, octets.
const GROUP_OCTETS: usize = 63;

fn own<'a>(key: &str, task: &'a Task, port: &'a TaskPort) -> Option<&'a str> {
    port.labels.get(key).or_else(|| task.labels.get(key)).map(String::as_str)
}

/// `SLUICE_WEIGHT`, else 1.
pub(super) fn weight(task: &Task, port: &TaskPort, report: &mut Report) -> u16 {
    let Some(text) = own(WEIGHT, task, port) else { return 1 };
    match text.trim().parse::<u16>() {
        Ok(weight) if weight <= WEIGHT_MAX => weight,
        Ok(_) | Err(_) => {
            report.reject(Rejected::new(&task.id, WEIGHT, text, "a weight is a number from 0 to 1000; 1 is used"));
            1
        }
    }
}

/// `SLUICE_MODE`, if it is one.
pub(super) fn mode(default: Mode, task: &Task, port: &TaskPort, report: &mut Report) -> Mode {
    let Some(text) = own(MODE, task, port) else { return default };
    if let Some((_, mode)) = Mode::ALL.iter().find(|(name, _)| *name == text.trim()) {
        return *mode;
    }
    let known: Vec<&str> = Mode::ALL.iter().map(|(name, _)| *name).collect();
    let reason = format!("a mode is one of {}; {} is used", known.join(", "), default.name());
    report.reject(Rejected::new(&task.id, MODE, text, reason));
    default
}

/// `SLUICE_ALLOW_GROUPS`: a comma list, or `*`.
pub(super) fn allow_groups(task: &Task, port: &TaskPort, report: &mut Report) -> AllowGroups {
    let Some(text) = own(ALLOW_GROUPS, task, port) else { return AllowGroups::Own };
    let mut these = Vec::new();
    for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        if group == "*" {
            return AllowGroups::All;
        }
        if group.len() > GROUP_OCTETS {
            report.reject(Rejected::new(&task.id, ALLOW_GROUPS, group, "a group has at most 63 octets"));
        } else {
            these.push(group.to_owned());
        }
    }
    these.sort_unstable();
    these.dedup();
    if these.is_empty() { AllowGroups::Own } else { AllowGroups::These(these) }
}

/// Who may use a service of two apps: whoever both let in.
pub(super) fn both(a: AllowGroups, b: &AllowGroups) -> AllowGroups {
    match (a, b) {
        (AllowGroups::All, other) => other.clone(),
        (other, AllowGroups::All) => other,
        (AllowGroups::These(mut a), AllowGroups::These(b)) => {
            a.retain(|group| b.contains(group));
            if a.is_empty() { AllowGroups::Own } else { AllowGroups::These(a) }
        }
        (AllowGroups::Own, _) | (_, AllowGroups::Own) => AllowGroups::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_two_apps_lets_in_whom_both_let_in() {
        let these = |groups: &[&str]| AllowGroups::These(groups.iter().map(|g| (*g).to_owned()).collect());
        for (a, b, expected) in [
            (AllowGroups::All, AllowGroups::All, AllowGroups::All),
            (AllowGroups::All, these(&["x"]), these(&["x"])),
            (these(&["x", "y"]), these(&["y", "z"]), these(&["y"])),
            (these(&["x"]), these(&["z"]), AllowGroups::Own),
            (AllowGroups::All, AllowGroups::Own, AllowGroups::Own),
        ] {
            assert_eq!(both(a.clone(), &b), expected);
            assert_eq!(both(b, &a), expected);
        }
    }
}

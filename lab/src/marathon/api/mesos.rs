//! `/lab/mesos`, which no Marathon has: what a Mesos master would know by this one, for the lab's own master.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::super::mesos;
use super::{Pairs, Shared, values};

/// How soon a change is seen, and how long one is waited for.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 250;

/// Everything, once it is not what `after` (the `version` of an earlier answer) stands for; after five seconds anyway.
pub(super) async fn told(State(marathon): Shared, Query(pairs): Pairs) -> Json<Value> {
    let after = values(&pairs, "after");
    let mut left = LOOKS;
    loop {
        let known = mesos::known(&marathon);
        let mut hasher = DefaultHasher::new();
        known.to_string().hash(&mut hasher);
        let version = hasher.finish().to_string();
        if left == 0 || !after.contains(&version) {
            return Json(json!({"version": version, "known": known}));
        }
        left -= 1;
        tokio::time::sleep(LOOK).await;
    }
}

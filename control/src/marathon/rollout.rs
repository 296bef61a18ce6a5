//! Which tasks of an app a running deployment is to replace, and which of the new ones are ready.
//!
//! A task keeps the version from which it was started. Scaling gives an app a new version and leaves its tasks alone, so
//! they are held against `versionInfo.lastConfigChangeAt`; an answer without it has `version` alone. Versions are Marathon's
//! timestamps (`2024-05-01T10:00:00.000Z`, always of that length), whose order is that of their octets.

use serde::Deserialize;
use serde_json::Value;

use crate::view::Rollout;

/// Whether an app's `deployments` has one that runs. Marathon sends that list unasked.
pub(super) fn is_deploying(deployments: Option<&Value>) -> bool {
    deployments.and_then(Value::as_array).is_some_and(|running| !running.is_empty())
}

/// What an app that is being deployed says of its versions.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Versions {
    version: Option<Value>,
    version_info: Option<Value>,
    readiness_checks: Option<Value>,
    /// `embed=apps.readiness`: absent from an answer that was not asked for them.
    readiness_check_results: Option<Value>,
}

impl Versions {
    /// Where a task of the app stands.
    pub(super) fn rollout(&self, task: &str, version: Option<&str>) -> Rollout {
        match (version, self.wanted()) {
            (Some(version), Some(wanted)) if is_older(version, wanted) => Rollout::Old,
            (Some(_) | None, _) if self.is_ready(task) => Rollout::New,
            (Some(_) | None, _) => Rollout::Unready,
        }
    }

    /// The version that a task must have been started from to stay.
    fn wanted(&self) -> Option<&str> {
        let changed = self.version_info.as_ref().and_then(|info| info["lastConfigChangeAt"].as_str());
        changed.or_else(|| self.version.as_ref().and_then(Value::as_str))
    }

    /// Marathon asks readiness checks during a deployment only, and of tasks that it started; one without a result has
    /// not been asked yet.
    fn is_ready(&self, task: &str) -> bool {
        let checked = self.readiness_checks.as_ref().and_then(Value::as_array).is_some_and(|checks| !checks.is_empty());
        let results = self.readiness_check_results.as_ref().and_then(Value::as_array);
        let Some(results) = results.filter(|_| checked) else { return true };
        let mut said = results.iter().filter(|r| r["taskId"].as_str() == Some(task)).peekable();
        said.peek().is_some() && said.all(|r| r["ready"].as_bool() == Some(true))
    }
}

/// Timestamps of two forms have no order here.
fn is_older(version: &str, than: &str) -> bool {
    version.len() == than.len() && version < than
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OLD: &str = "2024-05-01T10:00:00.000Z";
    const NEW: &str = "2024-05-01T11:30:00.000Z";

    fn rollout(app: &Value, version: Option<&str>) -> Rollout {
        let versions: Versions = serde_json::from_value(app.clone()).unwrap();
        versions.rollout("web.1", version)
    }

    fn deploying() -> Value {
        json!({ "id": "/web", "version": NEW, "versionInfo": { "lastScalingAt": NEW, "lastConfigChangeAt": NEW } })
    }

    #[test]
    fn a_task_of_a_version_before_the_last_change_of_configuration_is_old_while_a_deployment_runs() {
        let app = deploying();
        assert_eq!(rollout(&app, Some(OLD)), Rollout::Old);
        assert_eq!(rollout(&app, Some(NEW)), Rollout::New);
        assert_eq!(rollout(&app, None), Rollout::New, "nothing said is nothing held against it");
        for (said, deploys) in
            [(json!([{ "id": "97c136bf" }]), true), (json!([]), false), (json!(null), false), (json!("x"), false)]
        {
            assert_eq!(is_deploying(Some(&said)), deploys, "{said}");
        }
        assert!(!is_deploying(None));
    }

    #[test]
    fn scaling_makes_nobody_old_and_without_version_info_the_version_counts() {
        let mut app = deploying();
        app["versionInfo"]["lastConfigChangeAt"] = OLD.into();
        assert_eq!(rollout(&app, Some(OLD)), Rollout::New);
        app["versionInfo"] = Value::Null;
        assert_eq!(rollout(&app, Some(OLD)), Rollout::Old);
        app["version"] = "v2".into();
        assert_eq!(rollout(&app, Some(OLD)), Rollout::New, "two forms are not compared");
        app["version"] = json!(2);
        assert_eq!(rollout(&app, Some(OLD)), Rollout::New);
    }

    #[test]
    fn a_new_task_with_readiness_checks_is_ready_once_all_of_them_say_so() {
        let mut app = deploying();
        app["readinessChecks"] = json!([{ "name": "up" }, { "name": "warm" }]);
        assert_eq!(rollout(&app, Some(NEW)), Rollout::New, "the answer does not tell results");
        let result = |task: &str, name: &str, ready| json!({ "name": name, "taskId": task, "ready": ready });
        for (results, wanted) in [
            (vec![], Rollout::Unready),
            (vec![result("web.2", "up", true)], Rollout::Unready),
            (vec![result("web.1", "up", true), result("web.1", "warm", false)], Rollout::Unready),
            (vec![result("web.1", "up", true), result("web.1", "warm", true)], Rollout::New),
        ] {
            app["readinessCheckResults"] = results.into();
            assert_eq!(rollout(&app, Some(NEW)), wanted, "{app}");
            assert_eq!(rollout(&app, Some(OLD)), Rollout::Old, "an old one is old, ready or not");
        }
        app["readinessChecks"] = json!([]);
        app["readinessCheckResults"] = json!([]);
        assert_eq!(rollout(&app, Some(NEW)), Rollout::New);
    }
}

//! The life of one task: staged, started, watched, told to end, ended. One tokio task each.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::timeout;

use super::health;
use super::launch::{Identity, Launched, launch};
use super::state::{CheckResult, Condition};
use super::{Marathon, notices};
use crate::processes;

/// Runs an instance that the engine has put into the state as staging, to its very end.
pub(crate) async fn run(marathon: Arc<Marathon>, instance: String) {
    let Some((spec, identity, kill)) = marathon.with(|state| {
        let task = state.tasks.get(&instance)?;
        let identity = Identity { task: task.id.clone(), version: task.version.clone(), agent: task.agent };
        Some((task.spec.clone(), identity, task.kill.clone()))
    }) else {
        return;
    };
    let (agents, program) = (marathon.agents.clone(), marathon.program.clone());
    let (of, who) = (spec.clone(), identity.clone());
    // Closed once the emulator stops: nothing is started then.
    let Ok(turn) = marathon.starting.acquire().await else { return };
    let launched = tokio::task::spawn_blocking(move || launch(&agents, &program, &of, &who)).await;
    drop(turn);
    let Launched { sandbox, mut processes } = match launched {
        Ok(Ok(launched)) => launched,
        Ok(Err(error)) => return ended(&marathon, &instance, Condition::Failed, &error.to_string()),
        Err(error) => return ended(&marathon, &instance, Condition::Failed, &error.to_string()),
    };
    started(&marathon, &instance, &sandbox);
    let checks: Vec<_> = (0..spec.health.len())
        .map(|index| tokio::spawn(health::watch(marathon.clone(), instance.clone(), index, sandbox.place.clone())))
        .collect();
    let status = tokio::select! {
        status = first_exit(&mut processes) => status,
        () = kill.notified() => {
            condition(&marathon, &instance, Condition::Killing);
            end(&mut processes, spec.kill_grace).await
        }
    };
    checks.iter().for_each(tokio::task::JoinHandle::abort);
    end(&mut processes, Duration::ZERO).await;
    let agents = marathon.agents.clone();
    // The container's namespace is removed before the task is gone from the lists: its address is free again then.
    let released = tokio::task::spawn_blocking(move || agents.release(identity.agent, sandbox)).await;
    if let Err(error) = released {
        tracing::warn!(%error, instance, "the task's container is not removed");
    }
    let asked = marathon.with(|state| state.tasks.get(&instance).is_some_and(|task| task.kill_asked));
    let (last, message) = verdict(asked, status);
    ended(&marathon, &instance, last, &message);
}

fn verdict(asked: bool, status: Option<ExitStatus>) -> (Condition, String) {
    let said = match status.map(|s| (s.code(), s.signal())) {
        Some((Some(code), _)) => format!("Command exited with status {code}"),
        Some((None, Some(signal))) => format!("Command terminated with signal {signal}"),
        _ => "Command terminated".to_owned(),
    };
    match (asked, status.is_some_and(|s| s.success())) {
        (true, _) => (Condition::Killed, said),
        (false, true) => (Condition::Finished, said),
        (false, false) => (Condition::Failed, said),
    }
}

fn started(marathon: &Marathon, instance: &str, sandbox: &super::agents::Sandbox) {
    marathon.with(|state| {
        if let Some(task) = state.tasks.get_mut(instance) {
            task.host_ports.clone_from(&sandbox.host_ports);
            task.address = sandbox.address;
            task.address6 = sandbox.address6;
            task.started_at = Some(super::clock::now());
            task.checks = vec![CheckResult::default(); task.spec.health.len()];
        }
    });
    condition(marathon, instance, Condition::Running);
}

/// Changes a task's state and tells the subscribers.
fn condition(marathon: &Marathon, instance: &str, condition: Condition) {
    marathon.with(|state| {
        if let Some(task) = state.tasks.get_mut(instance) {
            task.condition = condition;
        }
    });
    notices::task_changed(marathon, instance, "");
    marathon.wake();
}

/// The last state, told once; then the task is forgotten.
fn ended(marathon: &Marathon, instance: &str, last: Condition, message: &str) {
    if last == Condition::Failed {
        tracing::info!(instance, message, "task failed");
    }
    let backoff_counts = matches!(last, Condition::Failed | Condition::Finished);
    marathon.with(|state| {
        if let Some(task) = state.tasks.get_mut(instance) {
            task.condition = last;
        }
    });
    notices::task_changed(marathon, instance, message);
    marathon.with(|state| {
        if let Some(task) = state.tasks.remove(instance)
            && backoff_counts
        {
            super::engine::note_failure(state, &task, last, message);
        }
    });
    marathon.wake();
}

/// Waits until any process of the instance ends.
async fn first_exit(processes: &mut [Child]) -> Option<ExitStatus> {
    let waits = processes.iter_mut().map(|child| Box::pin(child.wait()));
    let waits: Vec<_> = waits.collect();
    if waits.is_empty() {
        return None;
    }
    futures_util::future::select_all(waits).await.0.ok()
}

/// SIGTERM to every process group, `grace`, SIGKILL; the status of the first process.
async fn end(processes: &mut [Child], grace: Duration) -> Option<ExitStatus> {
    if !grace.is_zero() {
        processes.iter().for_each(|child| signal_group(child, Signal::SIGTERM));
        let all = async {
            for child in processes.iter_mut() {
                // A process that cannot be waited for is not ours any more.
                let _ = child.wait().await;
            }
        };
        let _ = timeout(grace, all).await;
    }
    let mut status = None;
    for child in processes.iter_mut() {
        signal_group(child, Signal::SIGKILL);
        let exit = child.wait().await.ok();
        status = status.or(exit);
    }
    status
}

fn signal_group(child: &Child, signal: Signal) {
    child.id().into_iter().for_each(|pid| processes::signal_group(pid, signal));
}

//! Leases of the overlay: the running program's side of [`crate::lease`].

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sluice_config::model::Config;
use tokio::task::block_in_place;

use super::{Machine, RunError};
use crate::lease::Lease;
use crate::lease::desk::{self, Desk, DeskError, Order};
use crate::lease::file::File;
use crate::lease::pool::Pool;
use crate::lease::token::Token;

/// A wish that was granted, and is answered once the tables with it are published.
pub(super) type Granted = (Lease, tokio::sync::oneshot::Sender<Result<Lease, DeskError>>);

/// The desk and what agents must show, where the configuration says that leases are given.
pub(super) fn open(config: &Config, folder: Option<&Path>) -> Result<Option<(desk::Shared, Option<Token>)>, RunError> {
    let wanted = config.overlay.as_ref().and_then(|overlay| overlay.leases.as_ref());
    let Some((wanted, pool)) = wanted.zip(Pool::of(config, &[])) else { return Ok(None) };
    let path = wanted.store.clone().or_else(|| Some(folder?.join("leases.json")));
    let desk = Desk::open(path.map(|path| File { path }), pool)?;
    let token = wanted.token_file.as_deref().map(|path| Token::read("overlay.token_file", path)).transpose()?;
    if token.is_none() {
        tracing::warn!("whoever sends from an agent's address may take its lease: `overlay.token_file` asks for more");
    }
    Ok(Some((Arc::new(Mutex::new(desk)), token)))
}

impl Machine {
    /// Does what is wished; an answer that others must know of first waits for [`Machine::answer_leases`]. Whether
    /// anything changed.
    pub(super) fn grant(&mut self, order: Order) -> bool {
        let Order { agent, wish, answer } = order;
        let Some(desk) = &self.desk else { return false };
        let done = block_in_place(|| desk::at(desk).obey(agent, &wish, Instant::now()));
        // Whoever asked may have gone away.
        match done {
            Ok((lease, true)) => self.granted.push((lease, answer)),
            Ok((lease, false)) => drop(answer.send(Ok(lease))),
            // The agent logs it once, and asks again every few seconds.
            Err(error) => {
                tracing::debug!(%agent, %error, "an agent's wish is refused");
                drop(answer.send(Err(error)));
            }
        }
        !self.granted.is_empty()
    }

    /// Answers what was granted and is published now.
    pub(super) fn answer_leases(&mut self) {
        for (lease, answer) in self.granted.drain(..) {
            drop(answer.send(Ok(lease)));
        }
    }

    /// Takes the leases that hold beside what others say into the view.
    pub(super) fn lease_out(&mut self) {
        let overlay = &mut self.publication.view.overlay;
        let settled = self.desk.as_ref().and_then(|desk| desk::at(desk).settle(&self.config, &overlay.agents));
        if let Some(leased) = settled {
            overlay.leased = leased;
        }
    }
}

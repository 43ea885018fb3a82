//! Callers of functions that some node hosts, through one daemon: they cost so little that what is
//! measured is what lies behind them.

use std::{path::Path, sync::Arc};

use rhd_sdk::{Client, Invocation};

use crate::{
    Outcome,
    driver::{Measured, Request},
    tally::{Found, repeat},
};

/// A client of one daemon.
pub(crate) struct Callers {
    client: Client,
}

impl Callers {
    /// Connects to the daemon of a home.
    pub(crate) async fn attach(home: &Path) -> Outcome<Self> {
        Ok(Self { client: Client::attach(home).await.map_err(|e| e.to_string())? })
    }
}

impl Measured for Callers {
    /// Calls without arguments; each caller has one service, and one call under way.
    async fn measure(&mut self, request: Request) -> Outcome<Found> {
        let (case, span, width) = (request.case.clone(), request.span(), request.width);
        if case != "call" || request.services.is_empty() {
            return Err(format!("no case {case}, or nothing to call").into());
        }
        let services: Vec<Arc<Invocation>> = request
            .services
            .into_iter()
            .map(|(service, node)| Invocation { node: Some(node), ..Invocation::of(&service) })
            .map(Arc::new)
            .collect();
        let client = self.client.clone();
        repeat(width, span, move |index| {
            let (client, what) = (client.clone(), services[index % services.len()].clone());
            async move {
                let none: [(); 0] = [];
                client.call::<()>(&what, &none).await.map_err(|e| e.to_string().into())
            }
        })
        .await
    }
}

//! Callers of functions that some node hosts, through one daemon: they cost so little that what is
//! measured is what lies behind them.

use std::{path::Path, sync::Arc};

use rhd_sdk::{Client, ErrorInfo, Invocation};

use crate::{
    Outcome,
    driver::{Measured, Request},
    tally::{Found, repeat},
};

/// Does nothing; this program itself is the env that it runs in.
#[rhd_sdk::function]
fn native() {}

/// A client of one daemon.
pub(crate) struct Callers {
    client: Client,
    far: String,
    /// On the far node, once it was asked for.
    native: Option<native>,
}

impl Callers {
    /// Connects to the daemon of a home.
    pub(crate) async fn attach(home: &Path, far: String) -> Outcome<Self> {
        let client = Client::attach(home).await.map_err(told)?;
        Ok(Self { client, far, native: None })
    }

    /// Calls functions by name; each caller has one of them, and one call under way.
    async fn named(&self, request: Request) -> Outcome<Found> {
        let (span, width) = (request.span(), request.width);
        if request.services.is_empty() {
            return Err("nothing to call".into());
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
                client.call::<()>(&what, &none).await.map_err(told)
            }
        })
        .await
    }

    /// Calls the function of this program on the far node.
    async fn native(&mut self, request: Request) -> Outcome<Found> {
        let function = match &self.native {
            Some(function) => function,
            None => {
                let made = native::to(&self.client.cluster(&self.far)).await.map_err(told)?;
                self.native.insert(made)
            }
        };
        let function = Arc::new(function.clone());
        repeat(request.width, request.span(), move |_| {
            let function = function.clone();
            async move { function.call().await.map_err(told) }
        })
        .await
    }
}

impl Measured for Callers {
    async fn measure(&mut self, request: Request) -> Outcome<Found> {
        match request.case.as_str() {
            "call" => self.named(request).await,
            "native" => self.native(request).await,
            other => Err(format!("no case {other}").into()),
        }
    }
}

fn told(error: ErrorInfo) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}

//! What the daemon loaded: service names, and the functions that they mean here.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use rhd_protocol::{
    call::Verb,
    code::{Entry, Load},
    error::{ErrorInfo, ErrorKind},
    frame,
    worker::Loaded,
};

use super::{
    failure::refused,
    registry::{self, Registered},
    wire::Head,
};

/// The services of this process.
#[derive(Debug, Default)]
pub(super) struct Services(RwLock<HashMap<String, &'static Registered>>);

impl Services {
    /// The function that a call means.
    pub(super) fn bind(&self, call: &Head<'_>) -> Result<&'static Registered, ErrorInfo> {
        let services = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let function = services.get(call.service).copied();
        drop(services);
        let function = function.ok_or_else(|| {
            let text = format!("{} is not in this worker", call.service);
            ErrorInfo::new(ErrorKind::NotFound, text).hint("deploy it again")
        })?;
        if call.verb != Verb::Call || call.method.is_some() {
            let text = format!("{} is a function, which can only be called", call.service);
            return Err(refused(text, "call it without a method"));
        }
        Ok(function)
    }

    /// Loads what a daemon asks for; the answer is the body of the reply.
    pub(super) fn load(&self, call: &Head<'_>) -> Result<Vec<u8>, ErrorInfo> {
        let Some(Load { entry: Entry::Native { symbol }, .. }) = &call.load else {
            let hint = "deploy Python code to an env of its own";
            return Err(refused("a program loads only what is compiled into it", hint));
        };
        let function = Registered::find(symbol).ok_or_else(|| unknown(symbol))?;
        let loaded = Loaded { interface: function.interface(), class: false };
        let mut services = self.0.write().unwrap_or_else(PoisonError::into_inner);
        services.insert(call.service.to_owned(), function);
        drop(services);
        let unwritten = |e: frame::FrameError| ErrorInfo::new(ErrorKind::Internal, e.to_string());
        frame::to_vec(&loaded).map_err(unwritten)
    }
}

fn unknown(symbol: &str) -> ErrorInfo {
    let mut known: Vec<_> = registry::all().map(|function| function.symbol).collect();
    known.sort_unstable();
    let text = format!("the program has no function {symbol}");
    let has = match &known[..] {
        [] => "none; mark functions with #[rhd_sdk::function]".to_owned(),
        known => known.iter().take(20).copied().collect::<Vec<_>>().join(", "),
    };
    ErrorInfo::new(ErrorKind::NotFound, text).hint(format!("it has: {has}"))
}

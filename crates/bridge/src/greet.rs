//! Hellos said and answered.

use zenoh::Wait;
use zenoh::query::{ConsolidationMode, Query, QueryTarget};
use zenoh::sample::Locality;

use crate::error::{BridgeError, Refusal};
use crate::hello::{Answer, Hello};
use crate::shared::Shared;

/// Asks whoever stands at the other side. None: nobody does.
pub(crate) fn say_hello(shared: &Shared, hello: &Hello) -> Result<Option<Answer>, Refusal> {
    let text = serde_json::to_vec(hello).map_err(|e| Refusal::Here(e.to_string()))?;
    let replies = shared
        .zenoh
        .get(format!("{}/hello", shared.key(&hello.name)))
        .payload(text)
        .target(QueryTarget::All)
        .consolidation(ConsolidationMode::None)
        // This bridge itself answers hellos too.
        .allowed_destination(Locality::Remote)
        .timeout(shared.options.timeout)
        .wait()
        .map_err(BridgeError::zenoh("say hello"))?;
    let (mut good, mut refused) = (Vec::new(), None);
    while let Ok(reply) = replies.recv() {
        let Ok(sample) = reply.result() else { continue };
        match serde_json::from_slice(&sample.payload().to_bytes()) {
            Ok(answer @ Answer::Refused { .. }) => refused = Some(answer),
            Ok(answer) => good.push(answer),
            Err(e) => return Err(Refusal::Foreign(format!("its answer cannot be read ({e})"))),
        }
    }
    match good.len() {
        0 => Ok(refused),
        1 => Ok(good.pop()),
        bridges => Err(Refusal::Several(bridges)),
    }
}

/// Says what became of a hello.
pub(crate) fn answer(query: &Query, answer: &Answer) -> Result<(), Refusal> {
    let text = serde_json::to_vec(answer).map_err(|e| Refusal::Here(e.to_string()))?;
    query.reply(query.key_expr().clone(), text).wait().map_err(BridgeError::zenoh("answer a hello"))?;
    Ok(())
}

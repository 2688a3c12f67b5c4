//! Answers made of what only a node has.

use slackline_client::types::{
    ConsensusJson, FootprintJson, FoundEventJson, FunctionSamplesJson, HexBytes, MeteringJson,
    Mode, SamplesJson, ViewJson,
};
use slackline_executor::sample::Samples;
use slackline_executor::trace::Footprint;
use slackline_executor::{EventAt, EventPosition, MeteringStats, ViewResult};

/// The keys that an execution uses.
pub(super) fn footprint(footprint: Footprint) -> Vec<FootprintJson> {
    let keys = footprint.keys.into_iter();
    keys.map(|((contract, key), used)| FootprintJson {
        contract,
        key: HexBytes(key),
        read: used.read,
        written: used.written,
    })
    .collect()
}

/// An event of the chain.
pub(super) fn event(found: &EventAt) -> FoundEventJson {
    FoundEventJson {
        height: found.position.height,
        transaction_index: found.position.transaction,
        event_index: found.position.event,
        transaction: found.transaction,
        event: (&found.event).into(),
    }
}

/// What sampling has found.
pub(super) fn samples(samples: Samples) -> SamplesJson {
    let functions = samples.functions.into_iter();
    let mut functions: Vec<_> = functions
        .map(|((code, function), of)| FunctionSamplesJson {
            code,
            function,
            name: of.name,
            samples: of.samples,
            fuel: of.fuel,
        })
        .collect();
    functions.sort_by_key(|of| std::cmp::Reverse(of.samples));
    SamplesJson {
        functions,
        lost: samples.lost,
    }
}

/// The text of a place in the chain's events.
pub(super) fn cursor(position: &EventPosition) -> String {
    let EventPosition {
        height,
        transaction,
        event,
    } = position;
    format!("{height}-{transaction}-{event}")
}

/// The place that [`cursor`] has made `text` of.
pub(super) fn parse_cursor(text: &str) -> Result<EventPosition, String> {
    let wrong = || "not the `next` of an answer".to_owned();
    let mut parts = text.split('-');
    let mut part = || parts.next().ok_or_else(wrong);
    let position = EventPosition {
        height: part()?.parse().map_err(|_| wrong())?,
        transaction: part()?.parse().map_err(|_| wrong())?,
        event: part()?.parse().map_err(|_| wrong())?,
    };
    match parts.next() {
        None => Ok(position),
        Some(_) => Err(wrong()),
    }
}

/// What a view came to.
pub(super) fn view(result: &ViewResult) -> ViewJson {
    ViewJson {
        outcome: (&result.outcome).into(),
        fuel_used: result.fuel_used,
        height: result.height,
    }
}

/// What the fuel checks did.
pub(super) fn metering(stats: MeteringStats) -> MeteringJson {
    MeteringJson {
        executions: stats.executions,
        checks_sent: stats.checks_sent,
        checks_landed: stats.checks_landed,
        stopped: stats.stopped,
        max_overshoot_fuel: stats.max_overshoot_fuel,
    }
}

/// Where consensus is.
pub(super) fn consensus(status: &slackline_consensus::Status) -> ConsensusJson {
    ConsensusJson {
        height: status.height,
        round: status.round,
        decided: status.decided,
        peers: status.peers,
        validator: status.validator,
        sits_out: status.sits_out,
    }
}

/// How fuel is metered.
pub(super) fn mode(mode: slackline_executor::Mode) -> Mode {
    match mode {
        slackline_executor::Mode::Slacked => Mode::Slacked,
        slackline_executor::Mode::Hybrid => Mode::Hybrid,
        slackline_executor::Mode::Exact => Mode::Exact,
    }
}

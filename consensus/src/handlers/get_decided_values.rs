//! A peer that is behind asks for blocks. The range is the peer's, so it is cut to what there is and to what fits.

use super::answer;
use crate::application::Application;
use crate::certificate;
use crate::codec::extended;
use crate::context::{Context, Height};
use crate::malachite::{RawDecidedValue, Reply};
use crate::state::{Fatal, State, application};
use std::ops::RangeInclusive;

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    range: RangeInclusive<Height>,
    reply: Reply<Vec<RawDecidedValue<Context>>>,
) -> Result<(), Fatal> {
    let values = get_decided_values(state, range)?;
    answer(reply, values);
    Ok(())
}

fn get_decided_values<A: Application>(
    state: &State<A>,
    range: RangeInclusive<Height>,
) -> Result<Vec<RawDecidedValue<Context>>, Fatal> {
    let start = range.start().0.max(1);
    let most = state.settings.sync_blocks as u64;
    let end = state
        .head
        .0
        .min(range.end().0)
        .min(start.saturating_add(most - 1));
    let mut values = Vec::new();
    let mut size = 0;
    for height in start..=end {
        let decided = state
            .app
            .decided(height)
            .map_err(application("to read a block"))?;
        let Some(decided) = decided else { break };
        size += decided.bytes.len() + decided.certificate.len();
        if size > state.settings.sync_bytes && !values.is_empty() {
            break;
        }
        let certificate = certificate::decode(&decided.certificate)
            .map_err(|source| Fatal::Certificate { height, source })?;
        values.push(RawDecidedValue::new(decided.bytes, extended(certificate)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::testing;
    use std::sync::Arc;

    #[test]
    fn a_range_is_cut_to_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        for height in 1..=5 {
            let certificate = testing::certificate(height, Default::default());
            let certificate = certificate::encode(&certificate).unwrap();
            app.commit(height, &vec![0; 400_000].into(), &certificate)
                .unwrap();
        }
        let (state, _) = testing::state(&app, 1, dir.path());
        let ask = |from, to| {
            let values = get_decided_values(&state, Height(from)..=Height(to)).unwrap();
            values.iter().map(|v| v.height().0).collect::<Vec<_>>()
        };
        // Two fit in the most bytes of an answer.
        assert_eq!(ask(1, u64::MAX), [1, 2]);
        assert_eq!(ask(0, 1), [1]);
        assert_eq!(ask(4, 9), [4, 5]);
        assert!(ask(6, u64::MAX).is_empty());
        assert!(ask(u64::MAX, u64::MAX).is_empty());
        assert!(ask(3, 2).is_empty());
    }
}

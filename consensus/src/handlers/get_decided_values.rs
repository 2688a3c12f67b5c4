//! A peer that is behind asks for blocks. The range is the peer's, so it is cut to what there is and to what fits. Nor does it
//! matter to consensus here that an old block does not read: the peer gets those before it, and asks others for the rest.

use super::answer;
use crate::application::Application;
use crate::certificate;
use crate::codec::extended;
use crate::context::{Context, Height};
use crate::malachite::{CommitCertificate, RawDecidedValue, Reply};
use crate::state::{Fatal, State, application};
use bytes::Bytes;
use std::ops::RangeInclusive;

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    range: RangeInclusive<Height>,
    reply: Reply<Vec<RawDecidedValue<Context>>>,
) -> Result<(), Fatal> {
    answer(reply, get_decided_values(state, range));
    Ok(())
}

fn get_decided_values<A: Application>(
    state: &State<A>,
    range: RangeInclusive<Height>,
) -> Vec<RawDecidedValue<Context>> {
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
        let decided = match read(state, height) {
            Ok(decided) => decided,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(height, error, "a peer asks for a block that does not read");
                break;
            }
        };
        let Some((bytes, certificate, length)) = decided else {
            break;
        };
        size += length;
        if size > state.settings.sync_bytes && !values.is_empty() {
            break;
        }
        values.push(RawDecidedValue::new(bytes, extended(certificate)));
    }
    values
}

/// A block, its certificate, and the bytes of both.
fn read<A: Application>(
    state: &State<A>,
    height: u64,
) -> Result<Option<(Bytes, CommitCertificate<Context>, usize)>, Fatal> {
    let decided = state.app.decided(height);
    let Some(decided) = decided.map_err(application("to read a block"))? else {
        return Ok(None);
    };
    let length = decided.bytes.len() + decided.certificate.len();
    let certificate = certificate::decode(&decided.certificate)
        .map_err(|source| Fatal::Certificate { height, source })?;
    Ok(Some((decided.bytes, certificate, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::testing;
    use std::sync::Arc;
    use tokio::sync::oneshot;

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
            let values = get_decided_values(&state, Height(from)..=Height(to));
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

    #[test]
    fn what_does_not_read_ends_an_answer_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let certificate = testing::certificate(1, Default::default());
        let good = certificate::encode(&certificate).unwrap();
        app.commit(1, &vec![0; 10].into(), &good).unwrap();
        app.commit(2, &vec![0; 10].into(), b"damaged").unwrap();
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let mut ask = || {
            let (reply, mut answer) = oneshot::channel();
            handle(&mut state, Height(1)..=Height(2), reply).unwrap();
            answer.try_recv().unwrap().len()
        };
        assert_eq!(ask(), 1);
        *app.fail.lock().unwrap() = true;
        assert_eq!(ask(), 0);
    }
}

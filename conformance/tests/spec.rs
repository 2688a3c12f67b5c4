//! The official tests of WebAssembly in all metering modes.

use anyhow::{Result, anyhow, ensure};
use slackline_conformance::spec::{self, ALLOWED, THREAD_STACK};

/// What contracts may use works as it should, for the same fuel in each mode; what they may not is refused.
#[test]
fn official_tests() -> Result<()> {
    std::thread::Builder::new()
        .stack_size(THREAD_STACK)
        .spawn(|| -> Result<()> {
            let report = spec::in_all_modes(&spec::bundled())?;
            assert_eq!(report.failures, Vec::<String>::new());
            ensure!(report.scripts > 300 && report.calls > 30_000, "{report:?}");
            for (suite, tally) in report.suites {
                let allowed = ALLOWED.contains(&suite.as_str());
                ensure!(allowed || tally.refused > 0, "{suite}: {tally}");
            }
            Ok(())
        })?
        .join()
        .map_err(|panic| anyhow!("{:?}", panic.downcast_ref::<String>()))?
}

//! `validate`: the simulator against theory and recorded runs.

use crate::program;
use std::path::PathBuf;

/// Recorded runs that cannot be read are refused at once, before any check is made.
#[test]
fn validate_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-profiles");
    let line = format!("validate --profiles {}", folder.display());
    let output = program(&line).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no-profiles/vllm-run-rtx4090") && !error.contains("validate: 1 of"), "{error}");
}

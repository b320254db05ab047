//! Everything that the tests check on the emulated device, on the real one, and at full length.

use std::panic::{AssertUnwindSafe, catch_unwind};

use paddock::cuda::{Cuda, Device};
use paddock_tests::cuda::{
    Comparison, adamw_is_the_cpus, cases, choices_are_the_cpus, compare, decoding_is_the_cpus, fine_tuning_is_the_cpus,
    reward_gradients_are_the_cpus, small_updates_count_on_average, training_is_deterministic,
};

/// How much is fine-tuned.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    steps: usize,
    /// Tokens of an example.
    length: usize,
}

/// The whole fixture.
pub const FULL: Extent = Extent { steps: 20, length: usize::MAX };
/// For a watched run.
pub const SMALL: Extent = Extent { steps: 2, length: 20 };

/// Checks one set of formats: lines of the report, and whether all holds.
///
/// # Errors
/// When the device fails.
pub fn check(cuda: &Cuda<Device>, name: &str, seed: u32, extent: Extent) -> paddock::Result<(String, bool)> {
    let mut groups: Vec<(&str, Vec<Comparison>)> = Vec::new();
    let mut operations = Vec::new();
    for case in cases() {
        operations.extend(compare(cuda, &case, seed)?);
    }
    groups.push(("operations and adjoints", operations));
    groups.push(("AdamW, norms of gradients", adamw_is_the_cpus(cuda, seed)?));
    groups.push(("updates too small for bf16", small_updates_count_on_average(cuda)?));
    groups.push(("decoding on a cache, forks", decoding_is_the_cpus(cuda, seed)?));
    groups.push(("fine-tuning", fine_tuning_is_the_cpus(cuda, extent.steps, extent.length)?));
    groups.push(("a reward model's gradients", reward_gradients_are_the_cpus(cuda, extent.length.min(200), seed)?));
    let mut text = format!("### {name}\n\n| | compared | largest share of what is allowed | |\n|---|---:|---:|---|\n");
    let mut holds = true;
    for (group, comparisons) in &groups {
        let worst = comparisons.iter().map(|c| c.error / c.bound).fold(0.0f32, f32::max);
        let failed: Vec<&Comparison> = comparisons.iter().filter(|c| !c.holds()).collect();
        holds &= failed.is_empty();
        let verdict = if failed.is_empty() { "holds" } else { "FAILS" };
        text += &format!("| {group} | {} | {worst:.2} | {verdict} |\n", comparisons.len());
        for Comparison { what, error, bound } in failed {
            eprintln!("{name}: {what}: {error} is more than {bound}");
            text += &format!("| {what} | | {error} of {bound} | FAILS |\n");
        }
    }
    // These two panic where something differs.
    let checks: [(&str, &dyn Fn() -> paddock::Result<()>); 2] = [
        ("choice of tokens, the CPU's own", &|| Ok(choices_are_the_cpus(cuda, seed)?)),
        ("two runs have the same bits", &|| Ok(training_is_deterministic(cuda, extent.steps.min(5), extent.length)?)),
    ];
    for (group, check) in checks {
        let good = catch_unwind(AssertUnwindSafe(check)).is_ok_and(|result| result.is_ok());
        holds &= good;
        text += &format!("| {group} | | | {} |\n", if good { "holds" } else { "FAILS" });
    }
    Ok((text + "\n", holds))
}

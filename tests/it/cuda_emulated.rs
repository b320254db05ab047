//! The CUDA backend on an emulated device: every kernel's arithmetic, launch and arguments, without a GPU. What a GPU
//! makes of them is shown by `cargo xtask gpu-check` alone.

use paddock::cuda::{Cuda, Formats};
use paddock_engine::backend::Cpu;
use paddock_learn::optim::Precision;
use paddock_tests::cuda::{
    Comparison, a_resumed_run_is_the_same, adamw_is_the_cpus, cases, choices_are_the_cpus, compare,
    decoding_is_the_cpus, fine_tuning_is_the_cpus, offload_trains_alike, reward_gradients_are_the_cpus,
    rounding_follows_seed_and_place, small_eight_bit_moments_are_not_zero, small_updates_count_on_average,
    training_is_deterministic,
};
use paddock_tests::emulator::{Emulator, compiler};
use paddock_tests::skip;

const SEED: u32 = 20_261_124;
/// Tokens of an example: attention goes by their square.
const LENGTH: usize = 16;

/// Runs `test` for every set of formats, with the threads of a block in both orders.
fn on_devices(test: impl Fn(&Cuda<Emulator>)) {
    let Some(compiler) = compiler() else {
        return skip("compiler", "there is no C++ compiler (CXX names one)");
    };
    for formats in [Formats::F32, Formats::BF16, Formats::LEAN] {
        // The orders are equal in what they may find: one for each set is enough.
        test(&Cuda::new(Emulator::new(&compiler, formats, formats == Formats::BF16)));
    }
}

/// Fails with every comparison that does not hold.
fn all_hold(formats: Formats, comparisons: impl IntoIterator<Item = Comparison>) {
    let failed: Vec<String> = comparisons.into_iter().filter(|c| !c.holds()).map(|c| format!("{c:?}")).collect();
    assert!(failed.is_empty(), "{formats:?}:\n  {}", failed.join("\n  "));
}

#[test]
fn operations_and_adjoints_are_the_cpus() {
    on_devices(|cuda| {
        let compare = |case| compare(cuda, &case, SEED).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        all_hold(cuda.formats(), cases().into_iter().flat_map(compare));
    });
}

#[test]
fn the_optimiser_is_the_cpus() {
    on_devices(|cuda| {
        all_hold(cuda.formats(), adamw_is_the_cpus(cuda, SEED).unwrap());
        all_hold(cuda.formats(), small_updates_count_on_average(cuda).unwrap());
    });
}

#[test]
fn the_cpu_rounds_by_seed_and_place_too() {
    rounding_follows_seed_and_place(&Cpu::with_threads(2), Precision::Bf16Stochastic).unwrap();
    small_eight_bit_moments_are_not_zero(&Cpu::with_threads(2)).unwrap();
}

#[test]
fn rounding_by_chance_follows_seed_and_place() {
    on_devices(|cuda| {
        if cuda.formats() != Formats::F32 {
            rounding_follows_seed_and_place(cuda, Precision::F32).unwrap();
        }
    });
}

#[test]
fn moments_in_eight_bits_do_not_vanish() {
    on_devices(|cuda| small_eight_bit_moments_are_not_zero(cuda).unwrap());
}

#[test]
fn decoding_on_a_cache_is_the_cpus() {
    on_devices(|cuda| all_hold(cuda.formats(), decoding_is_the_cpus(cuda, SEED).unwrap()));
}

#[test]
fn tokens_are_those_that_the_cpu_chooses() {
    on_devices(|cuda| choices_are_the_cpus(cuda, SEED).unwrap());
}

#[test]
fn fine_tuning_is_the_cpus_and_always_the_same() {
    on_devices(|cuda| {
        all_hold(cuda.formats(), fine_tuning_is_the_cpus(cuda, 2, LENGTH).unwrap());
        training_is_deterministic(cuda, 1, LENGTH).unwrap();
    });
}

#[test]
fn the_optimiser_may_lie_on_the_host() {
    on_devices(|cuda| all_hold(cuda.formats(), offload_trains_alike(cuda, 2, LENGTH).unwrap()));
}

#[test]
fn a_run_goes_on_from_its_checkpoint() {
    on_devices(|cuda| a_resumed_run_is_the_same(cuda, LENGTH).unwrap());
}

#[test]
fn gradients_of_a_reward_model_are_the_cpus() {
    on_devices(|cuda| all_hold(cuda.formats(), reward_gradients_are_the_cpus(cuda, LENGTH, SEED).unwrap()));
}

#[test]
fn a_wrong_number_is_noticed() {
    let exact = [1.0, -2.0, 3.0];
    let holds = |got: &[f32], plain| Comparison::new("test".into(), got, &exact, plain, 2.0).holds();
    assert!(holds(&exact, 0.0));
    assert!(!holds(&[1.0, -2.0, 3.001], 0.0));
    assert!(holds(&[1.0, -2.0, 3.001], 0.001));
    assert!(!holds(&[1.0, f32::NAN, 3.0], 1.0));
    assert!(!holds(&exact[..2], 1.0));
}

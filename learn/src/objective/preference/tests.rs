use paddock_engine::backend::Cpu;
use pollster::block_on;

use super::*;
use crate::collective::Stage;
use crate::data::{Extent, PairExample};
use crate::testing::{Twin, checkpoint, log_prob, near};

const DPO: PreferenceLoss = PreferenceLoss {
    kind: PreferenceKind::Sigmoid,
    beta: 0.5,
    label_smoothing: 0.0,
    gamma: 0.0,
    length_normalized: false,
    weights: [1.0, 0.7],
};
const KTO: PreferenceLoss = PreferenceLoss { kind: PreferenceKind::Kto, ..DPO };

/// Three pairs, of which the second is unwanted.
fn pairs() -> [PairExample; 3] {
    let pair = |first: &[u32], second: &[u32], targets: [&[usize]; 2], wanted| PairExample {
        ids: [first.to_vec(), second.to_vec()],
        targets: targets.map(<[usize]>::to_vec),
        margin: 0.0,
        safe: [wanted, true],
    };
    [
        pair(&[1, 5, 7, 3], &[1, 5, 9], [&[2, 3], &[2]], true),
        pair(&[1, 4, 2, 8, 6], &[1, 4, 11, 12, 13, 2], [&[2, 3, 4], &[2, 3, 4, 5]], false),
        pair(&[1, 10], &[1, 14, 15], [&[1], &[1, 2]], true),
    ]
}

/// The pairs in two passes or more, as the numbers 2, 0 and 1 of all.
fn share() -> PairShare {
    let pairs = pairs();
    let batch: Vec<(usize, &PairExample)> = [2, 0, 1].into_iter().zip(&pairs).collect();
    let share = PairShare::new(&batch, Extent::Answers, [0, 1], 16);
    assert_eq!(share.passes.len(), 2);
    share
}

/// The log-probabilities of both answers of the pairs by the engine.
fn by_the_engine() -> [[f64; 2]; 3] {
    pairs().map(|pair| [0, 1].map(|side| log_prob(&pair.ids[side], &pair.targets[side])))
}

/// What a reference thinks of the pairs that has other opinions by `off`, at the places of [`share`]'s numbers.
fn known(off: [[f64; 2]; 3]) -> Reference<Cpu, Cpu> {
    let mut sums = vec![0.0; 6];
    for ((number, own), off) in [2, 0, 1].into_iter().zip(by_the_engine()).zip(off) {
        for side in [0, 1] {
            sums[2 * number + side] = own[side] - off[side];
        }
    }
    Reference::Known(RefCell::new([sums, vec![-1.0; 6]]))
}

fn trainer(
    loss: PreferenceLoss,
    sft_weight: f64,
    lora: Option<Lora>,
    reference: Reference<Cpu, Cpu>,
    sharding: Option<Sharding<Cpu>>,
) -> Trainer<Cpu, Preference<Cpu>> {
    let (cpu, without_adapters) = (Cpu::with_threads(1), lora.is_some());
    let options = PreferenceOptions { tape: TapeOptions::default(), lora, seed: 3, loss, sft_weight, without_adapters };
    block_on(Preference::load((cpu.clone(), cpu, sharding), &mut checkpoint(), options, reference, &mut |_| {}))
        .unwrap()
}

fn value(measured: &Measured, name: &str) -> f64 {
    measured.values.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}: {measured:?}")).1
}

/// The loss along the gradient changes as the square of the gradient's norm says.
fn gradient_is_that_of_the_loss(trainer: &Trainer<Cpu, Preference<Cpu>>, batch: &PreferenceBatch) {
    let tape = trainer.tape();
    block_on(trainer.objective().accumulate(tape, batch)).unwrap();
    let mut squares = 0.0;
    let mut held = Vec::new();
    for info in tape.parameters() {
        let gradient = block_on(tape.read_gradient(info.id)).unwrap();
        squares += gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        held.push((info.id, block_on(tape.read_parameter(info.id)).unwrap(), gradient));
    }
    assert!(squares > 1e-6, "{squares}");
    let step = 3e-3 / squares.sqrt();
    let at = |step: f64| {
        for (id, values, gradient) in &held {
            let moved: Vec<f32> =
                values.iter().zip(gradient).map(|(value, slope)| value + (step * f64::from(*slope)) as f32).collect();
            tape.write_parameter(*id, 0, &moved).unwrap();
        }
        block_on(trainer.evaluate(batch)).unwrap()
    };
    let slope = (at(step) - at(-step)) / (2.0 * step);
    assert!((slope - squares).abs() < 0.01 * squares, "{slope}, expected {squares}");
}

#[test]
fn sums_are_the_engines_at_the_places_of_the_numbers() {
    let trainer = trainer(DPO, 0.0, None, Reference::None, None);
    let sums = block_on(trainer.objective().sums(trainer.tape(), &share(), 4)).unwrap();
    let [of_2, of_0, of_1] = by_the_engine();
    let expected = [of_0, of_1, of_2, [0.0; 2]].concat();
    assert_eq!(sums.len(), 8);
    sums.iter().zip(expected).for_each(|(got, expected)| near(*got, expected, 1e-5));
}

#[test]
fn dpos_loss_is_the_mean_over_pairs_beside_the_chosen_answers_own() {
    let off = [[1.0, -0.5], [-2.0, 0.25], [0.5, 0.75]];
    let trainer = trainer(DPO, 0.25, None, known(off), None);
    assert!(trainer.objective().lora().is_none());
    assert!(trainer.tape().parameters().iter().all(|info| info.trained));
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    let measured = block_on(trainer.objective().measure(trainer.tape(), &batch)).unwrap();
    let ranking = off.map(|[chosen, rejected]| (1.0 + f64::exp(-0.5 * (chosen - rejected))).ln()).iter().sum::<f64>();
    let own = by_the_engine();
    // Six tokens are in chosen answers.
    let loss = ranking / 3.0 - 0.25 * own.iter().map(|[chosen, _]| chosen).sum::<f64>() / 6.0;
    near(measured.loss, loss, 1e-5);
    near(value(&measured, "rewards/chosen"), 0.5 * (1.0 - 2.0 + 0.5) / 3.0, 1e-5);
    near(value(&measured, "rewards/rejected"), 0.5 * (-0.5 + 0.25 + 0.75) / 3.0, 1e-5);
    near(value(&measured, "logps/rejected"), own.iter().map(|[_, rejected]| rejected).sum::<f64>() / 3.0, 1e-5);
    near(value(&measured, "rewards/accuracies"), 1.0 / 3.0, 1e-9);
    near(block_on(trainer.evaluate(&batch)).unwrap(), loss, 1e-5);
    let accumulated = block_on(trainer.objective().accumulate(trainer.tape(), &batch)).unwrap();
    assert_eq!(accumulated, measured);
    assert_eq!(block_on(trainer.objective().loss(trainer.tape(), accumulated)).unwrap(), measured);
    let of_others = PreferenceBatch { set: PairSet::Eval, ..batch };
    assert_ne!(block_on(trainer.objective().measure(trainer.tape(), &of_others)).unwrap(), measured);
}

#[test]
fn dpos_gradient_is_that_of_its_loss() {
    let off = [[1.0, -0.5], [-2.0, 0.25], [0.5, 0.75]];
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    for sft_weight in [0.0, 0.25] {
        gradient_is_that_of_the_loss(&trainer(DPO, sft_weight, None, known(off), None), &batch);
    }
}

#[test]
fn ktos_loss_is_the_mean_over_answers_against_the_drift_of_mismatched_ones() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let off = [[1.0, 2.5], [-2.0, 1.25], [0.5, 0.75]];
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    let drift = (2.5 + 1.25 + 0.75) / 3.0;
    let loss = (1.0 - sigmoid(0.5 * (1.0 - drift)) + 0.7 * (1.0 - sigmoid(-0.5 * (-2.0 - drift))) + 1.0
        - sigmoid(0.5 * (0.5 - drift)))
        / 3.0;
    let alone = trainer(KTO, 0.0, None, known(off), None);
    let measured = block_on(alone.objective().measure(alone.tape(), &batch)).unwrap();
    near(measured.loss, loss, 1e-5);
    near(value(&measured, "kl"), drift, 1e-5);
    near(value(&measured, "rewards/chosen"), 0.5 * 1.5 / 2.0, 1e-5);
    near(value(&measured, "rewards/rejected"), 0.5 * -2.0, 1e-5);
    // Two ranks with the same answers have twice the drift together; each gives half of what is reported.
    let (sharding, _) = Twin::sharding(Stage::One);
    let twin = trainer(KTO, 0.0, None, known(off), Some(sharding));
    let measured = block_on(twin.objective().measure(twin.tape(), &batch)).unwrap();
    near(value(&measured, "kl"), drift, 1e-5);
}

/// Below 0 the drift counts as 0, so that it has no slope.
#[test]
fn ktos_gradient_is_that_of_its_loss() {
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    let off = [[1.0, -2.5], [-2.0, -1.25], [0.5, -0.75]];
    gradient_is_that_of_the_loss(&trainer(KTO, 0.0, None, known(off), None), &batch);
}

/// Of two ranks that have the same pairs, `sums` gives the sums of both.
#[test]
fn ranks_add_their_sums_up() {
    let (sharding, _) = Twin::sharding(Stage::Two);
    let trainer = trainer(DPO, 0.0, None, Reference::None, Some(sharding));
    let sums = block_on(trainer.objective().sums(trainer.tape(), &share(), 3)).unwrap();
    near(sums[0], 2.0 * by_the_engine()[1][0], 1e-5);
}

/// Adapters begin as nothing, so the model is its own reference until they are changed.
#[test]
fn without_adapters_the_model_is_the_reference() {
    let lora = Lora { rank: 2, ..Lora::default() };
    let trainer = trainer(DPO, 0.0, Some(lora.clone()), Reference::None, None);
    assert_eq!(trainer.objective().lora(), Some(&lora));
    let tape = trainer.tape();
    let trained = tape.parameters().into_iter().filter(|info| info.trained);
    assert!(trained.clone().all(|info| info.label.contains("lora_")), "the model is frozen");
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    let measure = || block_on(trainer.objective().measure(tape, &batch)).unwrap();
    let [chosen, rejected] = [0, 1].map(|side| by_the_engine().iter().map(|pair| pair[side]).sum::<f64>() / 3.0);
    near(measure().loss, std::f64::consts::LN_2, 1e-6);
    near(value(&measure(), "logps/chosen"), chosen, 1e-5);
    for info in trained.filter(|info| info.label.ends_with("lora_B.weight")) {
        tape.write_parameter(info.id, 0, &vec![0.5; info.len()]).unwrap();
    }
    let measured = measure();
    let moved = |name: &str, before: f64| 0.5 * (value(&measured, name) - before);
    near(value(&measured, "rewards/chosen"), moved("logps/chosen", chosen), 1e-4);
    near(value(&measured, "rewards/rejected"), moved("logps/rejected", rejected), 1e-4);
    assert!(moved("logps/chosen", chosen).abs() > 1e-3, "the adapters act");
}

#[test]
fn a_model_that_stays_is_a_reference() {
    let model = block_on(CausalLm::load(&Cpu::with_threads(1), &mut checkpoint(), &mut |_| {})).unwrap();
    let trainer = trainer(DPO, 0.0, None, Reference::Model(model), None);
    let batch = PreferenceBatch { set: PairSet::Train, share: share() };
    let measured = block_on(trainer.objective().measure(trainer.tape(), &batch)).unwrap();
    near(measured.loss, std::f64::consts::LN_2, 1e-6);
    near(value(&measured, "rewards/chosen"), 0.0, 1e-5);
}

#[test]
fn what_is_measured_of_pairs_are_means() {
    let answer = |policy, reference| AnswerLogProbs { policy, reference, tokens: 1 };
    let mut sums = Sums { loss: 7.0, ..Sums::default() };
    for pair in [
        [answer(-2.0, -3.0), answer(-5.0, -4.0)],
        [answer(-1.0, -1.0), answer(-4.0, -4.0)],
        [answer(-3.0, -6.0), answer(-8.0, -7.5)],
        [answer(-9.0, -8.0), answer(-6.0, -7.0)],
    ] {
        sums.add(&DPO, &pair);
    }
    let measured = sums.measured(4, None);
    assert_eq!(measured.loss, 7.0);
    let expected = [
        ("rewards/chosen", 0.5 * 3.0 / 4.0),
        ("rewards/rejected", 0.5 * -0.5 / 4.0),
        ("rewards/margins", 0.5 * 3.5 / 4.0),
        ("rewards/accuracies", 2.0 / 4.0),
        ("logps/chosen", -15.0 / 4.0),
        ("logps/rejected", -23.0 / 4.0),
    ];
    assert_eq!(measured.values, expected);
}

#[test]
fn what_is_measured_of_single_answers_are_means_of_each_kind() {
    let mut sums = Sums::default();
    for (wanted, policy, reference) in
        [(true, -2.0, -3.0), (false, -6.0, -5.0), (true, -4.0, -4.0), (true, -1.0, -3.0), (false, -7.0, -5.0)]
    {
        sums.add_answer(&DPO, wanted, &AnswerLogProbs { policy, reference, tokens: 1 });
    }
    let expected = [
        ("rewards/chosen", 0.5),
        ("rewards/rejected", -0.75),
        ("rewards/margins", 1.25),
        ("rewards/accuracies", 4.0 / 5.0),
        ("logps/chosen", -7.0 / 3.0),
        ("logps/rejected", -6.5),
    ];
    assert_eq!(sums.measured(5, Some(3)).values, expected);
}

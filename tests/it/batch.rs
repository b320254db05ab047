//! Sequences in one batch are what they are alone, bit for bit on the CPU, whatever runs beside them.

use paddock_engine::backend::{Cpu, Device, Sampling, Segments};
use paddock_engine::generate::{
    Answer, Batch, Chat, Choice, Decoder, FinishReason, GenerateOptions, Part, Session, Step,
};
use paddock_engine::model::CausalLm;
use paddock_engine::weights::Checkpoint;
use paddock_tests::{block_on, fixture_source};

const MODEL: &str = "llama-gqa-tied-sharded";
const CAPACITY: usize = 48;

fn load() -> CausalLm<Cpu> {
    block_on(async {
        let mut checkpoint = Checkpoint::open(fixture_source(MODEL)).await.unwrap();
        CausalLm::load(&Cpu::with_threads(2), &mut checkpoint, &mut |_| {}).await.unwrap()
    })
}

/// Prompts of several lengths, and how many tokens are to follow each.
fn requests() -> Vec<(Vec<u32>, Sampling, usize)> {
    let lengths = [(1, 9), (20, 3), (7, 12), (33, 5), (12, 1), (2, 7)];
    let request = |(seed, (length, count)): (u32, (usize, usize))| {
        let prompt = (0..length as u32).map(|i| 1 + (seed * 37 + i * 11) % 400).collect();
        let temperature = if seed % 3 == 0 { 0.0 } else { 1.3 };
        (prompt, Sampling { temperature, seed, repetition_penalty: 1.2, ..Sampling::default() }, count)
    };
    (0..).zip(lengths).map(request).collect()
}

fn alone(prompt: &[u32], sampling: &Sampling, count: usize) -> Vec<u32> {
    let mut session = Session::new(load(), CAPACITY).unwrap();
    session.prefill(prompt).unwrap();
    session.set_seen(prompt).unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.extend(block_on(session.decode(count - ids.len(), sampling)).unwrap());
    }
    ids
}

#[test]
fn slots_take_another_sequence_when_theirs_has_ended() {
    let (model, requests) = (load(), requests());
    let expected: Vec<Vec<u32>> =
        requests.iter().map(|(prompt, sampling, count)| alone(prompt, sampling, *count)).collect();
    for slots in [1, 2, 3, 6] {
        let mut decoder = Decoder::new(&model, slots, CAPACITY).unwrap();
        let mut waiting = 0..requests.len();
        let mut held: Vec<Option<usize>> = vec![None; slots];
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); requests.len()];
        let mut ragged = false;
        loop {
            for (slot, held) in held.iter_mut().enumerate().filter(|(_, held)| held.is_none()) {
                if let Some(index) = waiting.next() {
                    let prompt = &requests[index].0;
                    decoder.begin(&model, slot, prompt).unwrap();
                    decoder.set_seen(&model, slot, prompt).unwrap();
                    *held = Some(index);
                }
            }
            // Five rows a pass, so that prompts are read in pieces beside sequences that are decoded.
            if decoder.read(&model, 5).unwrap().is_none() {
                break;
            }
            let complete: Vec<(usize, usize)> = (0..slots)
                .filter_map(|slot| Some((slot, held[slot]?)))
                .filter(|(slot, _)| decoder.batch().unread(*slot).is_empty())
                .collect();
            ragged |= complete.iter().any(|(_, index)| !found[*index].is_empty())
                && (0..slots).any(|slot| decoder.batch().unread(slot).len() > 1);
            let choices: Vec<Choice> =
                complete.iter().map(|(slot, index)| Choice { slot: *slot, sampling: requests[*index].1 }).collect();
            let ids = block_on(decoder.decode(&model, &choices, 1)).unwrap();
            for ((slot, index), ids) in complete.into_iter().zip(ids) {
                found[index].extend(ids);
                if found[index].len() == requests[index].2 {
                    held[slot] = None;
                    decoder.end(slot);
                }
            }
        }
        assert_eq!(found, expected, "{slots} slots");
        assert!(slots == 1 || ragged, "{slots} slots: no pass read a prompt beside decoding");
    }
}

#[test]
fn a_fork_goes_on_as_its_origin_does() {
    let model = load();
    let (prompt, sampling, _) = requests().swap_remove(1);
    let mut decoder = Decoder::new(&model, 3, CAPACITY).unwrap();
    decoder.begin(&model, 1, &prompt).unwrap();
    while decoder.read(&model, 8).unwrap().is_some() {}
    for slot in [0, 2] {
        decoder.fork(&model, 1, slot).unwrap();
    }
    let samplings = [Sampling { seed: 5, ..sampling }, sampling, Sampling { temperature: 0.0, ..sampling }];
    for (slot, sampling) in samplings.iter().enumerate() {
        decoder.set_seen(&model, slot, &prompt).unwrap();
        let mut ids = Vec::new();
        while ids.len() < 6 {
            let choice = Choice { slot, sampling: *sampling };
            ids.extend(block_on(decoder.decode(&model, &[choice], 6 - ids.len())).unwrap().swap_remove(0));
        }
        assert_eq!(ids, alone(&prompt, sampling, 6), "slot {slot}");
    }
}

#[test]
fn the_logits_that_are_chosen_from_are_those_of_a_full_pass() {
    let model = load();
    let requests = &requests()[1..4];
    let mut decoder = Decoder::new(&model, requests.len(), CAPACITY).unwrap();
    for (slot, (prompt, ..)) in requests.iter().enumerate() {
        decoder.begin(&model, slot, prompt).unwrap();
    }
    while decoder.read(&model, 256).unwrap().is_some() {}
    let choices: Vec<Choice> =
        requests.iter().enumerate().map(|(slot, (_, sampling, _))| Choice { slot, sampling: *sampling }).collect();
    let (mut ids, mut logits) = (vec![Vec::new(); requests.len()], Vec::new());
    for _ in 0..5 {
        let each = |rows: &<Cpu as Device>::Tensor| {
            logits.push(rows.values().to_vec());
            Ok(())
        };
        let found = block_on(decoder.decode_with(&model, &choices, 1, each)).unwrap();
        ids.iter_mut().zip(found).for_each(|(ids, found)| ids.extend(found));
    }
    let vocab = model.config().vocab_size;
    for (slot, (prompt, ..)) in requests.iter().enumerate() {
        let whole = [prompt.as_slice(), &ids[slot]].concat();
        let tokens = model.backend().tokens(&whole).unwrap();
        let full = model.forward(&tokens, &Segments::documents(&[whole.len()])).unwrap();
        for (step, logits) in logits.iter().enumerate() {
            let row = prompt.len() - 1 + step;
            assert!(
                logits[slot * vocab..][..vocab] == full.values()[row * vocab..][..vocab],
                "slot {slot}, step {step}"
            );
        }
    }
}

#[test]
fn what_no_slot_can_do_is_refused() {
    let model = load();
    let mut decoder = Decoder::new(&model, 2, 8).unwrap();
    let choice = Choice { slot: 1, sampling: Sampling::default() };
    let decode = |decoder: &mut Decoder<Cpu>| block_on(decoder.decode(&model, &[choice], 4)).map_err(|e| e.to_string());
    assert!(decode(&mut decoder).unwrap_err().contains("no prompt"));
    for (slot, ids, words) in
        [(0, vec![], "no tokens"), (0, vec![1; 9], "9 tokens"), (2, vec![1], "no slot 2"), (0, vec![9999], "9999")]
    {
        let error = decoder.begin(&model, slot, &ids).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    decoder.begin(&model, 1, &[1, 2, 3]).unwrap();
    assert!(decode(&mut decoder).unwrap_err().contains("no prompt"), "the prompt has not been read");
    decoder.read(&model, 2).unwrap();
    assert_eq!(decoder.batch().unread(1), [3]);
    let mut batch = Batch::new(model.trunk(), 2, 8).unwrap();
    batch.begin(0, &[1, 2, 3]).unwrap();
    while batch.run(model.trunk(), 256).unwrap().is_some() {}
    assert!(batch.fork(model.trunk(), 0, 1, &[4; 6]).is_err());
    // A sequence that is full gives no token.
    let mut full = Decoder::new(&model, 1, 3).unwrap();
    full.begin(&model, 0, &[1, 2, 3]).unwrap();
    while full.read(&model, 256).unwrap().is_some() {}
    let choice = Choice { slot: 0, sampling: Sampling::default() };
    assert_eq!(block_on(full.decode(&model, &[choice], 4)).unwrap()[0].len(), 1);
    assert_eq!(block_on(full.decode(&model, &[choice], 4)).unwrap(), [[0u32; 0]]);
}

#[test]
fn what_is_unread_of_an_ended_sequence_does_not_run() {
    let model = load();
    let mut batch = Batch::new(model.trunk(), 2, 8).unwrap();
    batch.begin(0, &[1, 2, 3]).unwrap();
    batch.begin(1, &[4, 5]).unwrap();
    batch.run(model.trunk(), 2).unwrap();
    batch.end(0);
    let pass = batch.run(model.trunk(), 256).unwrap().expect("slot 1 goes on");
    assert_eq!(pass.parts.iter().map(|part| part.slot).collect::<Vec<_>>(), [1]);
    assert!(batch.run(model.trunk(), 256).unwrap().is_none());
    // What was read stays, for a sequence that begins with it.
    assert_eq!(batch.cached(0), [1, 2]);
    assert_eq!(batch.begin(0, &[1, 2, 7]).unwrap(), 2);
}

/// Answers of a queue are those of a chat, whatever shares a beginning with them or runs beside them.
#[test]
fn a_queue_answers_as_a_chat_does() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        let mut chat = Chat::load(&cpu, fixture_source(MODEL), Some(64), &mut |_| {}).await.unwrap();
        let shared: Vec<u32> = (0..14).map(|i| 5 + i * 7).collect();
        let requests: Vec<(Vec<u32>, GenerateOptions)> = requests()
            .into_iter()
            .enumerate()
            .flat_map(|(index, (prompt, sampling, max_tokens))| {
                let options = GenerateOptions { sampling, max_tokens, stop: Vec::new() };
                let longer = [&shared[..], &prompt[..prompt.len().min(1 + index)]].concat();
                [(prompt, options.clone()), (longer, options)]
            })
            .collect();
        let mut expected = Vec::new();
        for (ids, options) in &requests {
            chat.begin_ids(ids, options).await.unwrap();
            while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
            expected.push(chat.answer().cloned().unwrap());
        }
        for slots in [1, 3, 5, requests.len()] {
            let mut many = chat.many(slots).unwrap();
            for (number, (ids, options)) in requests.iter().enumerate() {
                assert_eq!(many.add(ids.clone(), None, options.clone()).unwrap(), number);
            }
            let mut found = vec![None; requests.len()];
            while let Some(ended) = many.step().await.unwrap() {
                for (number, answer) in ended {
                    assert!(found[number].replace(answer).is_none());
                }
            }
            let found: Vec<Answer> = found.into_iter().map(Option::unwrap).collect();
            assert_eq!(found, expected, "{slots} slots");
            assert!(many.add(vec![1; 65], None, requests[0].1.clone()).is_err());
        }
    });
}

#[test]
fn a_prompt_takes_its_beginning_from_the_slot_that_has_most_of_it() {
    let model = load();
    let mut batch = Batch::new(model.trunk(), 3, 16).unwrap();
    batch.begin(0, &[1, 2, 3, 4, 5]).unwrap();
    batch.begin(1, &[1, 2, 9]).unwrap();
    while batch.run(model.trunk(), 256).unwrap().is_some() {}
    assert_eq!(batch.begin_sharing(model.trunk(), 2, &[1, 2, 3, 4, 7]).unwrap(), 4);
    assert_eq!((batch.cached(2), batch.unread(2)), (&[1, 2, 3, 4][..], &[7][..]));
    // Its own beginning is as good, and the last token is read in any case.
    assert_eq!(batch.begin_sharing(model.trunk(), 1, &[1, 2]).unwrap(), 1);
    assert_eq!(batch.begin_sharing(model.trunk(), 0, &[8]).unwrap(), 0);
    assert!(batch.begin_sharing(model.trunk(), 3, &[1]).is_err());
}

#[test]
fn prompts_that_begin_alike_wait_until_that_is_read() {
    let model = load();
    let prompt = |end: u32| [&(1..=20).collect::<Vec<u32>>()[..], &[end]].concat();
    let mut batch = Batch::new(model.trunk(), 3, CAPACITY).unwrap();
    assert!(!batch.is_reading_beginning(&prompt(30)), "nobody reads");
    batch.begin(0, &prompt(30)).unwrap();
    for (ids, waits) in [(prompt(31), true), (prompt(30), true), (vec![1, 2, 3, 40], false), (vec![50], false)] {
        assert_eq!(batch.is_reading_beginning(&ids), waits, "{ids:?}");
    }
    batch.run(model.trunk(), 256).unwrap();
    batch.advance(0, &[], 60);
    assert!(!batch.is_reading_beginning(&prompt(31)), "it is read");
    assert_eq!(batch.begin_sharing(model.trunk(), 1, &prompt(31)).unwrap(), 20);
    assert!(!batch.is_reading_beginning(&prompt(32)), "no more will be shared than is read");
}

#[test]
fn a_queue_fills_the_context_to_its_last_place() {
    block_on(async {
        let prompt: Vec<u32> = (0..20).map(|i| 5 + i * 7).collect();
        let sampling = Sampling { temperature: 1.0, seed: 2, ..Sampling::default() };
        let options = GenerateOptions { sampling, max_tokens: 100, stop: Vec::new() };
        for room in [5, 1, 0] {
            let (cpu, context) = (Cpu::with_threads(2), Some(prompt.len() + room));
            let mut chat = Chat::load(&cpu, fixture_source(MODEL), context, &mut |_| {}).await.unwrap();
            chat.begin_ids(&prompt, &options).await.unwrap();
            while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
            let expected = chat.answer().cloned().unwrap();
            // The last token that is chosen needs no place.
            assert_eq!((expected.token_ids.len(), expected.finish_reason), (room + 1, Some(FinishReason::Length)));
            let mut many = chat.many(1).unwrap();
            many.add(prompt.clone(), None, options.clone()).unwrap();
            let mut found = Vec::new();
            while let Some(ended) = many.step().await.unwrap() {
                found.extend(ended);
            }
            assert_eq!(found, [(0, expected)], "room for {room}");
        }
    });
}

#[test]
fn a_sequence_that_is_decoded_goes_before_a_prompt_that_is_read() {
    let model = load();
    let mut batch = Batch::new(model.trunk(), 2, 8).unwrap();
    batch.begin(0, &[1, 2, 3]).unwrap();
    batch.begin(1, &[4]).unwrap();
    let pass = batch.run(model.trunk(), 2).unwrap().unwrap();
    let part = |slot: usize, rows: std::ops::Range<usize>, complete: bool| Part { slot, rows, complete };
    assert_eq!(pass.parts, [part(1, 0..1, true), part(0, 1..2, false)]);
    assert_eq!((batch.cached(0), batch.unread(0)), (&[1][..], &[2, 3][..]));
}

#[test]
fn tokens_that_run_ahead_take_the_places_they_will_have() {
    let model = load();
    let trunk = model.trunk();
    let mut batch = Batch::new(trunk, 1, 8).unwrap();
    batch.begin(0, &[1, 2, 3]).unwrap();
    while batch.run(trunk, 256).unwrap().is_some() {}
    let mut run_ahead = |id: u32, ahead: usize| {
        let tokens = model.backend().tokens(&[id]).unwrap();
        batch.run_ahead(trunk, &[0], &tokens, ahead).unwrap()
    };
    run_ahead(4, 0);
    let last = run_ahead(5, 1);
    batch.advance(0, &[4, 5], 6);
    assert_eq!((batch.cached(0), batch.unread(0)), (&[1, 2, 3, 4, 5][..], &[6][..]));

    let mut whole = Batch::new(trunk, 1, 8).unwrap();
    whole.begin(0, &[1, 2, 3, 4, 5]).unwrap();
    whole.run(trunk, 4).unwrap();
    let expected = whole.run(trunk, 4).unwrap().unwrap();
    assert!(last.values() == expected.hidden.values());
}

#[test]
fn a_slot_that_has_ended_has_nothing_left_to_run() {
    let model = load();
    let mut decoder = Decoder::new(&model, 1, 8).unwrap();
    decoder.begin(&model, 0, &[1, 2, 3]).unwrap();
    while decoder.read(&model, 256).unwrap().is_some() {}
    let choice = Choice { slot: 0, sampling: Sampling::default() };
    block_on(decoder.decode(&model, &[choice], 1)).unwrap();
    assert_eq!(decoder.batch().unread(0).len(), 1);
    decoder.end(0);
    assert_eq!((decoder.batch().cached(0), decoder.batch().unread(0)), (&[1, 2, 3][..], &[][..]));
    assert!(decoder.read(&model, 256).unwrap().is_none());
}

/// Where all tokens are nearly as likely, the same random number would choose the same token again.
#[test]
fn each_token_is_drawn_with_a_random_number_of_its_own() {
    let ids = alone(&[1, 2, 3], &Sampling { temperature: 1e6, seed: 3, ..Sampling::default() }, 6);
    assert!(ids.iter().any(|id| *id != ids[0]), "{ids:?}");
}

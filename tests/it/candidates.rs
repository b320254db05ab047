//! Answers decoded side by side are those decoded one by one.

use paddock_engine::backend::{Backend, Cpu, Sampling};
use paddock_engine::generate::{Answer, CandidateStep, Chat, FinishReason, GenerateOptions, Step};
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_tests::{block_on, fixture_source, gpu};

const MODELS: [&str; 2] = ["llama-mha", "llama-gqa-tied-sharded"];

fn options(temperature: f32, max_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature, seed: 11, ..Sampling::default() };
    GenerateOptions { sampling, max_tokens, stop: Vec::new() }
}

fn question() -> Vec<Message> {
    vec![Message::new(Role::User, "Name the three primary colours of light. ".repeat(9))]
}

async fn load<B: Backend>(backend: &B, name: &str) -> (Chat<B>, Template) {
    let chat = Chat::load(backend, fixture_source(name), None, &mut |_| {}).await.unwrap();
    let template = Template::new(TemplateKind::None, chat.tokenizer()).unwrap();
    (chat, template)
}

async fn together<B: Backend>(backend: &B, name: &str, options: &GenerateOptions, count: usize) -> Vec<Answer> {
    let (mut chat, template) = load(backend, name).await;
    chat.begin_candidates(&question(), &template, options, count).await.unwrap();
    while chat.step_candidates().await.unwrap() != (CandidateStep::Decoded { unfinished: 0 }) {}
    chat.candidates().into_iter().cloned().collect()
}

async fn alone<B: Backend>(backend: &B, name: &str, options: &GenerateOptions) -> Answer {
    let (mut chat, template) = load(backend, name).await;
    chat.begin(&question(), &template, options).await.unwrap();
    while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
    chat.answer().cloned().unwrap()
}

#[test]
fn each_candidate_is_the_answer_of_its_seed() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        for name in MODELS {
            let options = options(1.2, 24);
            let answers = together(&cpu, name, &options, 4).await;
            for (index, answer) in answers.iter().enumerate() {
                let mut options = options.clone();
                options.sampling.seed += index as u32;
                assert_eq!(*answer, alone(&cpu, name, &options).await, "{name}, candidate {index}");
            }
            assert!(answers[0].token_ids != answers[1].token_ids, "{name}: the comparison cannot fail");
        }
    });
}

#[test]
fn greedy_candidates_on_a_gpu_are_the_greedy_answer() {
    block_on(async {
        let Some(gpu) = gpu().await else { return };
        for name in MODELS {
            let answers = together(&gpu, name, &options(0.0, 12), 3).await;
            let expected = alone(&Cpu::with_threads(2), name, &options(0.0, 12)).await;
            for answer in answers {
                assert_eq!(answer.token_ids, expected.token_ids, "{name}");
            }
        }
    });
}

#[test]
fn candidates_fill_the_context_to_its_last_place() {
    block_on(async {
        let cpu = Cpu::with_threads(2);
        let options = options(1.2, 400);
        let (mut chat, template) = load(&cpu, MODELS[0]).await;
        let prompt = chat.begin(&question(), &template, &options).await.unwrap().tokens;
        for room in [0, 1, 5] {
            let context = Some(prompt + room);
            let mut chat = Chat::load(&cpu, fixture_source(MODELS[0]), context, &mut |_| {}).await.unwrap();
            chat.begin_candidates(&question(), &template, &options, 3).await.unwrap();
            while chat.step_candidates().await.unwrap() != (CandidateStep::Decoded { unfinished: 0 }) {}
            let answers: Vec<Answer> = chat.candidates().into_iter().cloned().collect();
            for (index, answer) in answers.iter().enumerate() {
                // The last token that is chosen needs no place.
                assert_eq!((answer.token_ids.len(), answer.finish_reason), (room + 1, Some(FinishReason::Length)));
                let mut options = options.clone();
                options.sampling.seed += index as u32;
                chat.begin(&question(), &template, &options).await.unwrap();
                while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
                assert_eq!(chat.answer(), Some(answer), "room for {room}, candidate {index}");
            }
        }
    });
}

#[test]
fn candidates_end_by_themselves_and_leave_the_conversation_alone() {
    block_on(async {
        let (mut chat, template) = load(&Cpu::with_threads(2), MODELS[0]).await;
        assert!(chat.step_candidates().await.is_err());
        assert!(chat.begin_candidates(&question(), &template, &options(1.0, 4), 0).await.is_err());
        // No token at all, and a prompt that leaves room for few.
        chat.begin_candidates(&question(), &template, &options(1.0, 1), 2).await.unwrap();
        while chat.step_candidates().await.unwrap() != (CandidateStep::Decoded { unfinished: 0 }) {}
        for answer in chat.candidates() {
            assert_eq!((answer.token_ids.len(), answer.finish_reason), (1, Some(FinishReason::Length)));
        }
        chat.begin(&question(), &template, &options(0.0, 4)).await.unwrap();
        while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
        let before = chat.answer().cloned();
        chat.begin_candidates(&question(), &template, &options(1.0, 400), 2).await.unwrap();
        chat.step_candidates().await.unwrap();
        chat.cancel();
        assert_eq!(chat.step_candidates().await.unwrap(), CandidateStep::Decoded { unfinished: 0 });
        assert!(chat.candidates().iter().all(|answer| answer.finish_reason == Some(FinishReason::Cancelled)));
        assert_eq!(chat.answer().cloned(), before);
        let again = chat.begin(&question(), &template, &options(0.0, 4)).await.unwrap();
        assert_eq!(again.tokens, 1, "the conversation's cache is still there");
    });
}

#[test]
fn a_long_prompt_is_read_in_steps_and_once_for_all() {
    block_on(async {
        let (mut chat, template) = load(&Cpu::with_threads(2), MODELS[0]).await;
        let long = vec![Message::new(Role::User, "Name the three primary colours of light. ".repeat(16))];
        let total = chat.begin_candidates(&long, &template, &options(1.0, 2), 3).await.unwrap().tokens;
        assert!((257..=500).contains(&total), "{total} tokens");
        assert_eq!(chat.step_candidates().await.unwrap(), CandidateStep::Reading { done: 256, total });
        // One token comes with the rest of the prompt.
        assert_eq!(chat.step_candidates().await.unwrap(), CandidateStep::Decoded { unfinished: 3 });
        assert_eq!(chat.step_candidates().await.unwrap(), CandidateStep::Decoded { unfinished: 0 });
        assert!(chat.candidates().iter().all(|answer| answer.token_ids.len() == 2));
    });
}

//! Answers as a page or a command line asks for them: a long prompt is read in steps and can be given up in between.

use paddock_engine::backend::{Backend, Cpu, Sampling};
use paddock_engine::generate::{Chat, FinishReason, GenerateOptions, Step};
use paddock_tests::{block_on, fixture_source, gpu};

const FIXTURE: &str = "llama-gqa-tied-sharded";
/// The fixture's whole context less the answer.
const PROMPT: usize = 500;

async fn load<B: Backend>(backend: &B) -> Chat<B> {
    Chat::load(backend, fixture_source(FIXTURE), None, &mut |_| {}).await.unwrap()
}

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|index| 3 + index * 7 % 200).collect()
}

fn options() -> GenerateOptions {
    GenerateOptions { sampling: Sampling::default(), max_tokens: 6, stop: Vec::new() }
}

/// Steps to the end; gives the counts of tokens read, as they were reported.
async fn finish<B: Backend>(chat: &mut Chat<B>) -> Vec<usize> {
    let mut read = Vec::new();
    loop {
        match chat.step().await.unwrap() {
            Step::Reading { done, total } => {
                assert!(done <= total);
                read.push(done);
            }
            Step::Text(_) => {}
            Step::Done(_) => return read,
        }
    }
}

async fn a_prompt_can_be_given_up<B: Backend>(backend: B) {
    let (prompt, options) = (prompt(), options());
    let mut whole = load(&backend).await;
    let prefilled = whole.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (PROMPT, 0));
    let read = finish(&mut whole).await;
    assert!(read.len() > 1 && read.is_sorted() && read.last() == Some(&PROMPT), "{read:?}");
    let expected = whole.answer().unwrap().clone();
    assert_eq!(expected.token_ids.len(), options.max_tokens);

    let mut chat = load(&backend).await;
    chat.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!(chat.step().await.unwrap(), Step::Reading { done: read[0], total: PROMPT });
    chat.cancel();
    assert_eq!(chat.step().await.unwrap(), Step::Done(FinishReason::Cancelled));
    assert!(chat.answer().unwrap().token_ids.is_empty());

    // What was read is not read again, and the answer is the same.
    let prefilled = chat.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (PROMPT - read[0], read[0]));
    assert_eq!(finish(&mut chat).await.last(), Some(&(PROMPT - read[0])));
    assert_eq!(chat.answer(), Some(&expected));

    // Another prompt than the one given up starts where the two part.
    chat.begin_ids(&prompt, &options).await.unwrap();
    chat.cancel();
    let other = [&prompt[..read[0] + 3], &[7, 7, 7]].concat();
    let prefilled = chat.begin_ids(&other, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (3, read[0] + 3));
    finish(&mut chat).await;
    whole.begin_ids(&[9], &options).await.unwrap();
    finish(&mut whole).await;
    whole.begin_ids(&other, &options).await.unwrap();
    finish(&mut whole).await;
    assert_eq!(chat.answer(), whole.answer());
}

#[test]
fn a_prompt_can_be_given_up_on_the_processor() {
    block_on(a_prompt_can_be_given_up(Cpu::with_threads(2)));
}

#[test]
fn a_prompt_can_be_given_up_on_a_gpu() {
    block_on(async {
        if let Some(gpu) = gpu().await {
            a_prompt_can_be_given_up(gpu).await;
        }
    });
}

//! `paddock chat`: a conversation. Each line is a message; answers are streamed.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::generate::{self, Answer, GenerateOptions, Step};
use paddock_engine::prompt::{Message, Role, Template};

use super::console;
use super::device::OpenDevice;
use super::interrupt::Interrupt;
use super::options::{AnswerOptions, ModelOptions};
use crate::{Error, Result};

/// Chat with a model; Ctrl-C stops an answer
#[derive(Debug, Args)]
pub(super) struct Chat {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    answer: AnswerOptions,
}

impl Chat {
    pub fn run(&self) -> Result<()> {
        match self.model.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(self.converse(&cpu)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(self.converse(&gpu)),
            OpenDevice::Cuda(cuda) => pollster::block_on(self.converse(&cuda)),
        }
    }

    async fn converse<B: Backend>(&self, backend: &B) -> Result<()> {
        let options = self.answer.generate_options();
        let mut chat = self.model.load(backend).await?;
        let template = self.answer.template(&chat)?;
        let interrupt = Interrupt::listen()?;
        let on_terminal = io::stdin().is_terminal();
        if on_terminal {
            console::note(format_args!("{}, {} tokens of context", chat.device().name, chat.context()));
            console::note("/clear starts a new conversation, Ctrl-C stops an answer, Ctrl-D quits");
        }
        let mut messages = self.answer.conversation();
        let mut dropped = 0;
        while let Some(line) = read_message(on_terminal)? {
            match line.trim() {
                "" => continue,
                "/clear" => {
                    messages = self.answer.conversation();
                    dropped = 0;
                    console::note("the conversation was cleared");
                    continue;
                }
                _ => messages.push(Message::new(Role::User, line)),
            }
            interrupt.begin_answer();
            let answered = answer(&mut chat, &messages, &template, &options, &interrupt).await;
            interrupt.end_answer();
            match answered {
                Ok(answer) => {
                    if answer.dropped_messages > dropped {
                        dropped = answer.dropped_messages;
                        console::note(format_args!(
                            "(the context is full: the {dropped} oldest messages are left out)"
                        ));
                    }
                    messages.push(Message::new(Role::Assistant, answer.text));
                }
                // At a terminal, a refused message can be rephrased. A script must not continue without its answer.
                Err(Error::Engine(error)) if on_terminal => {
                    console::note(format_args!("error: {error}"));
                    messages.pop();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Streams one answer to stdout, until it is complete or interrupted.
async fn answer<B: Backend>(
    chat: &mut generate::Chat<B>,
    messages: &[Message],
    template: &Template,
    options: &GenerateOptions,
    interrupt: &Interrupt,
) -> Result<Answer> {
    let mut output = io::stdout().lock();
    chat.begin(messages, template, options).await?;
    loop {
        if interrupt.requested().is_some() {
            chat.cancel();
        }
        match chat.step().await? {
            Step::Text(text) => {
                output.write_all(text.as_bytes())?;
                output.flush()?;
            }
            Step::Reading { .. } => {}
            Step::Done(_) => break,
        }
    }
    writeln!(output)?;
    chat.answer().cloned().ok_or_else(|| Error::Request("no answer was begun".to_string()))
}

/// The next line of standard input; `None` at its end. On a terminal a prompt is shown.
fn read_message(on_terminal: bool) -> Result<Option<String>> {
    if on_terminal {
        let _ = write!(io::stderr(), "> ");
    }
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    let length = read.map_err(|error| Error::Request(format!("cannot read standard input: {error}")))?;
    if length == 0 {
        if on_terminal {
            console::note("");
        }
        return Ok(None);
    }
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(Some(line))
}

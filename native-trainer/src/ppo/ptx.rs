//! Text that the actor is not to forget.

use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::records::{Instruction, Record};
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::data::{Encoder, Example, Share};

use super::PpoSettings;
use crate::Result;
use crate::files::read_records;
use crate::training::Observer;

/// Examples, which are taken in the file's order, again and again.
pub(super) struct PtxExamples(Vec<Example>);

impl PtxExamples {
    /// Reads those of `settings`, if it names any. In Safe-RLHF's template an instruction and its input are the user's turn,
    /// joined by a blank.
    pub fn read(
        settings: &PpoSettings,
        tokenizer: &Tokenizer,
        context: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>> {
        let Some(path) = &settings.ptx_data else { return Ok(None) };
        let template = || Template::new(settings.run.template, tokenizer);
        let encoder = Encoder::new(tokenizer, template()?, settings.ptx_max_length.min(context))?;
        let prompts = (settings.run.template == TemplateKind::SafeRlhf).then(template).transpose()?;
        let records = read_records(path)?.and_then(|record| {
            let encoded = match (record, &prompts) {
                (Record::Instruction(task), Some(template)) => {
                    let prompt = template.render(&asked(task)).map_err(|error| error.to_string())?.text;
                    encoder.encode(&Record::Completion { prompt, completion: task.output.clone() })
                }
                _ => encoder.encode(record),
            };
            let example = encoded.map_err(|error| error.to_string())?;
            if example.targets.is_empty() {
                Err("nothing is left to learn after the cut".to_string())
            } else {
                Ok(example)
            }
        });
        let (examples, left_out) = records.checked(settings.run.strict)?;
        left_out.iter().for_each(|note| observer.note(note));
        Ok(Some(Self(examples)))
    }

    /// A rank's share of `count` examples for an update.
    pub fn share(&self, update: u64, count: usize, [rank, world_size]: [usize; 2], micro_batch_tokens: usize) -> Share {
        let first = update as usize * count;
        let batch: Vec<&Example> = (first..first + count).map(|index| &self.0[index % self.0.len()]).collect();
        Share::new(&batch, rank, world_size, micro_batch_tokens)
    }
}

fn asked(task: &Instruction) -> Vec<Message> {
    let mut question = task.instruction.clone();
    if !task.input.is_empty() {
        question = format!("{question} {}", task.input);
    }
    let system = task.system.iter().map(|text| Message::new(Role::System, text.as_str()));
    let history = task.history.iter().flat_map(|[question, answer]| {
        [Message::new(Role::User, question.as_str()), Message::new(Role::Assistant, answer.as_str())]
    });
    system.chain(history).chain([Message::new(Role::User, question)]).collect()
}

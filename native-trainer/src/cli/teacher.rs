//! Flags of commands that ask a language model, of this machine or on a server.

use std::env;
use std::time::Duration;

use clap::Args;

use super::console;
use super::options::{not_negative, positive};
use crate::instruct::Budget;
use crate::instruct::teacher::{Server, ServerOptions};
use crate::{Error, Result};

/// What only servers need.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// The environment variable that holds the server's key
    #[arg(long, default_value = "OPENAI_API_KEY", value_name = "NAME")]
    api_key_env: String,
    /// Longest wait for one answer, in seconds
    #[arg(long, default_value_t = 600, value_name = "S")]
    timeout: u64,
    /// Price of a million tokens that the server reads
    #[arg(long, default_value_t = 0.0, value_name = "PRICE", value_parser = not_negative)]
    price_prompt: f32,
    /// Price of a million tokens that the server writes
    #[arg(long, default_value_t = 0.0, value_name = "PRICE", value_parser = not_negative)]
    price_completion: f32,
    /// Stop before more than this is spent; what is under way then is still paid for
    #[arg(long, value_name = "PRICE", value_parser = positive)]
    max_cost: Option<f32>,
}

/// Which server is asked, by the names of flags.
pub(super) struct Asked<'a> {
    /// "teacher" or "judge": the flag that holds the address; with "-model" behind it, the one that names the model.
    pub role: &'static str,
    pub address: &'a str,
    pub model: Option<&'a str>,
    /// Requests at a time.
    pub concurrency: u16,
    /// The beginning of a user's turn, as tokens and as text, where it is known.
    pub turn: Option<(Vec<u32>, String)>,
}

impl ServerFlags {
    /// What may be spent.
    pub fn budget(&self) -> Budget {
        Budget {
            max_cost: self.max_cost.map(f64::from),
            prices: [self.price_prompt, self.price_completion].map(f64::from),
        }
    }

    /// Finds the server.
    ///
    /// # Errors
    /// When the address is none, or nothing answers there.
    pub fn connect(&self, asked: Asked) -> Result<Server> {
        let Asked { role, address, model, concurrency, turn } = asked;
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(Error::Request(format!(
                "the {role} \"{address}\" is neither local:PATH nor an address that begins with http:// or https://"
            )));
        }
        Server::connect(ServerOptions {
            url: address.to_string(),
            role,
            model: model.map(str::to_string),
            key: env::var(&self.api_key_env).ok().filter(|key| !key.is_empty()),
            concurrency: concurrency.into(),
            timeout: Duration::from_secs(self.timeout.max(1)),
            turn,
            note: |words| console::note(words),
        })
    }
}

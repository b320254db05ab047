//! A server that speaks OpenAI's protocol: OpenAI's own, llama.cpp's, vLLM, Ollama, LM Studio.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use paddock_engine::backend::pcg_hash;
use serde_json::{Value, json};

use super::retry::{ATTEMPTS, wait};
use super::{Ask, Completion, Teacher};
use crate::instruct::{Prompt, Usage};
use crate::{Error, Result};

/// Bytes of an answer that are read at most.
const LARGEST: u64 = 16 << 20;
/// Bytes of English text that make about a token, where a server does not count them.
const BYTES_PER_TOKEN: u64 = 4;
/// Between looks at whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Part of the greatest length that is left when a prompt and its answer do not fit the server's context, as in Alpaca.
const SHORTER: f64 = 0.8;
/// The greatest length below which no shorter one is tried.
const SHORTEST: usize = 64;
/// What llama.cpp says when a prompt alone does not fit, so that no shorter answer helps.
const PROMPT_ALONE: &str = "exceeds the available context size";

/// The shortest pause that is worth a note, and the time between two notes.
const QUIET_PAUSE: Duration = Duration::from_secs(2);
const BETWEEN_NOTES: Duration = Duration::from_secs(10);

/// How a server is asked.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its address, such as `http://localhost:8080`.
    pub url: String,
    /// What it is to the user, "teacher" or "judge"; with "-model" behind it, the flag that names the model.
    pub role: &'static str,
    /// The model; the first that the server offers by default.
    pub model: Option<String>,
    /// The key that it wants.
    pub key: Option<String>,
    /// Requests at a time.
    pub concurrency: usize,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// The beginning of a user's turn in the model's chat format, as tokens and as text; only Magpie needs it.
    pub turn: Option<(Vec<u32>, String)>,
    /// Is told, now and then, what is wrong with a server that is asked again.
    pub note: fn(&str),
}

/// How a prompt is handed over. A server that does not take one way is tried with the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ids,
    Text,
    Chat,
}

/// What a server has turned out to take.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The way for texts.
    text: Way,
    /// The way for turns.
    turn: Way,
    /// Whether it takes sampling options that OpenAI does not have.
    extras: bool,
    /// Whether the greatest length goes by its newer name.
    newer_length: bool,
}

/// A server that is asked.
pub struct Server {
    agent: ureq::Agent,
    base: String,
    model: String,
    options: ServerOptions,
    known: Mutex<Known>,
    /// When `options.note` was told something.
    noted: Mutex<Option<Instant>>,
}

/// Why one request has no answer.
enum Failure {
    /// It may have one if it is sent again; with the header `Retry-After`.
    Passing(String, Option<String>),
    /// It will never have one: the status and the server's words.
    Final(u16, String),
}

impl Server {
    /// Asks what models the server at `options.url` has, and chooses one.
    ///
    /// # Errors
    /// When it does not answer, or does not have the model.
    pub fn connect(options: ServerOptions) -> Result<Self> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(options.timeout));
        let url = options.url.trim_end_matches('/');
        let base = if url.ends_with("/v1") { url.to_string() } else { format!("{url}/v1") };
        let known = Known { text: Way::Text, turn: Way::Ids, extras: true, newer_length: false };
        let model = options.model.clone();
        let (agent, known, noted) = (config.build().into(), Mutex::new(known), Mutex::new(None));
        let mut server = Self { agent, base, model: String::new(), options, known, noted };
        server.model = match model {
            Some(model) => model,
            None => server.first_model()?,
        };
        Ok(server)
    }

    fn first_model(&self) -> Result<String> {
        let stop = AtomicBool::new(false);
        let models = self.persist(&stop, 0, || self.exchange("models", None))?;
        let id = models.and_then(|models| Some(models.pointer("/data/0/id")?.as_str()?.to_string()));
        id.ok_or_else(|| {
            let role = self.options.role;
            Error::Request(format!("{}/models names no model; name the {role}'s with --{role}-model", self.base))
        })
    }

    /// Sends one request and reads its answer.
    fn exchange(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}/{path}", self.base);
        let key = self.options.key.as_ref().map(|key| format!("Bearer {key}"));
        let passing = |error: String| Failure::Passing(error, None);
        let answered = match body {
            Some(body) => {
                let mut request = self.agent.post(&url);
                if let Some(key) = &key {
                    request = request.header("Authorization", key);
                }
                request.send_json(body)
            }
            None => {
                let mut request = self.agent.get(&url);
                if let Some(key) = &key {
                    request = request.header("Authorization", key);
                }
                request.call()
            }
        };
        let mut response = answered.map_err(|error| passing(format!("{url} cannot be reached: {error}")))?;
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_string);
        let text = response
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_string()
            .map_err(|error| passing(format!("the answer of {url} broke off: {error}")))?;
        match status {
            200..300 => serde_json::from_str(&text)
                .map_err(|error| passing(format!("the answer of {url} is not JSON: {error}"))),
            408 | 429 | 500.. => Err(Failure::Passing(format!("{url} answers {status}: {}", self.words(&text)), after)),
            _ => Err(Failure::Final(status, self.words(&text))),
        }
    }

    /// What a server says of an error, in one line and without the key.
    fn words(&self, body: &str) -> String {
        let json: Option<Value> = serde_json::from_str(body).ok();
        let message = json.as_ref().and_then(|json| {
            ["/error/message", "/error", "/message", "/detail"].iter().find_map(|at| json.pointer(at)?.as_str())
        });
        let line: Vec<&str> = message.unwrap_or(body).split_whitespace().collect();
        let mut words: String = line.join(" ").chars().take(300).collect();
        if let Some(key) = self.options.key.as_deref().filter(|key| !key.is_empty()) {
            words = words.replace(key, "…");
        }
        words
    }

    /// Sends a request until it has an answer that is worth something. `None` when `stop` came first.
    fn persist<T>(&self, stop: &AtomicBool, noise: u32, send: impl Fn() -> Result<T, Failure>) -> Result<Option<T>> {
        let mut attempt = 0;
        loop {
            match send() {
                Ok(answer) => return Ok(Some(answer)),
                Err(Failure::Final(status, words)) => {
                    let hint = match status {
                        401 | 403 => {
                            "; the key is read from the environment variable that --api-key-env names".to_string()
                        }
                        404 => format!("; check the address and --{}-model", self.options.role),
                        _ => String::new(),
                    };
                    return Err(Error::Request(format!("{} answers {status}: {words}{hint}", self.base)));
                }
                Err(Failure::Passing(words, after)) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    attempt += 1;
                    if attempt == ATTEMPTS {
                        let tried = format!("{words}; given up after {ATTEMPTS} attempts");
                        return Err(Error::Request(format!("{tried}, start again to go on from the journal")));
                    }
                    let pause = wait(attempt - 1, after.as_deref(), SystemTime::now(), pcg_hash(noise ^ attempt));
                    self.note(&words, pause);
                    let until = Instant::now() + pause;
                    while Instant::now() < until {
                        if stop.load(Ordering::Relaxed) {
                            return Ok(None);
                        }
                        thread::sleep(Duration::from_millis(20).min(until - Instant::now()));
                    }
                }
            }
        }
    }

    /// Says why nothing comes, but for the first and short pauses, and not for every request.
    fn note(&self, words: &str, pause: Duration) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if pause < QUIET_PAUSE || noted.is_some_and(|when| when.elapsed() < BETWEEN_NOTES) {
            return;
        }
        *noted = Some(Instant::now());
        (self.options.note)(&format!("{words}; asking again in {} s", pause.as_secs()));
    }

    /// Has one thing answered, in whatever way the server takes it. `None` when `stop` came first.
    fn answer(&self, ask: &Ask, stop: &AtomicBool) -> Result<Option<Completion>> {
        let mut max_tokens = ask.max_tokens;
        loop {
            let known = self.known();
            let way = match ask.prompt {
                Prompt::Text(_) => known.text,
                Prompt::Turn => known.turn,
                Prompt::Message(_) => Way::Chat,
            };
            let (path, body) = self.request(ask, way, max_tokens, known)?;
            let sent = self.persist(stop, ask.seed, || match self.exchange(path, Some(&body)) {
                Err(Failure::Final(status, words)) => Ok(Err((status, words))),
                other => other.map(|answer| completion(&answer, ask)).and_then(|answer| {
                    answer.map(Ok).ok_or_else(|| Failure::Passing(format!("{}/{path} gives no text", self.base), None))
                }),
            })?;
            let (status, words) = match sent {
                None => return Ok(None),
                Some(Ok(completion)) => return Ok(Some(completion)),
                Some(Err(refused)) => refused,
            };
            if !self.learn(ask, way, known, status, &words) {
                if is_too_long(&words) {
                    max_tokens = (max_tokens as f64 * SHORTER) as usize;
                    if max_tokens < SHORTEST || words.contains(PROMPT_ALONE) {
                        return Ok(Some(Completion::without_room()));
                    }
                    continue;
                }
                self.persist::<()>(stop, 0, || Err(Failure::Final(status, words.clone())))?;
            }
        }
    }

    /// Takes from a refusal what the server does not take. False when it teaches nothing.
    fn learn(&self, ask: &Ask, way: Way, known: Known, status: u16, words: &str) -> bool {
        let lower = words.to_lowercase();
        let mut learned = known;
        if known.extras && status != 404 && EXTRAS.iter().any(|(name, _)| lower.contains(name)) {
            learned.extras = false;
        } else if !known.newer_length && lower.contains("max_completion_tokens") {
            learned.newer_length = true;
        } else if matches!(status, 400 | 404 | 405 | 415 | 422 | 501) && !is_too_long(words) {
            let next = match (way, &ask.prompt) {
                (Way::Ids, _) => Way::Text,
                (Way::Text, Prompt::Text(_)) => Way::Chat,
                _ => return false,
            };
            match ask.prompt {
                Prompt::Text(_) => learned.text = next,
                _ => learned.turn = next,
            }
        } else {
            return false;
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = learned;
        true
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a request goes, and what it says. Every option is sent, because servers have defaults of their own.
    fn request(&self, ask: &Ask, way: Way, max_tokens: usize, known: Known) -> Result<(&'static str, Value)> {
        let mut body = json!({
            "model": self.model,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "n": 1,
            "seed": ask.seed & 0x7fff_ffff,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": false,
        });
        body[if known.newer_length { "max_completion_tokens" } else { "max_tokens" }] = max_tokens.into();
        if !ask.stop.is_empty() {
            body["stop"] = json!(ask.stop);
        }
        if known.extras {
            EXTRAS.iter().for_each(|(name, value)| body[*name] = json!(value));
        }
        let turn = || {
            self.options.turn.as_ref().ok_or_else(|| {
                Error::Request(
                    "the method magpie needs the teacher's chat template; name a folder that has it with --tokenizer"
                        .to_string(),
                )
            })
        };
        Ok(match (&ask.prompt, way) {
            (Prompt::Text(text) | Prompt::Message(text), Way::Chat) => {
                body["messages"] = json!([{ "role": "user", "content": text }]);
                ("chat/completions", body)
            }
            (Prompt::Text(text) | Prompt::Message(text), _) => {
                body["prompt"] = json!(text);
                ("completions", body)
            }
            (Prompt::Turn, Way::Ids) => {
                body["prompt"] = json!(turn()?.0);
                ("completions", body)
            }
            (Prompt::Turn, _) => {
                body["prompt"] = json!(turn()?.1);
                ("completions", body)
            }
        })
    }
}

/// Sampling options beyond OpenAI's, with the values that change nothing, by the names of llama.cpp and vLLM.
const EXTRAS: [(&str, f32); 4] = [("top_k", 0.0), ("min_p", 0.0), ("repeat_penalty", 1.0), ("repetition_penalty", 1.0)];

/// Whether a refusal is about the length of a prompt with its answer.
fn is_too_long(words: &str) -> bool {
    let lower = words.to_lowercase();
    ["context length", "context size", "context window", "maximum context", "too long", "too many tokens"]
        .iter()
        .any(|part| lower.contains(part))
}

/// The first choice of an answer; servers that ignore `n` may send more. `None` without a text.
fn completion(answer: &Value, ask: &Ask) -> Option<Completion> {
    let choice = answer.pointer("/choices/0")?;
    let text = choice.get("text").or_else(|| choice.pointer("/message/content"))?.as_str()?;
    // A server that does not know `stop` goes on behind it.
    let end = ask.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    let cut = end.is_none() && choice.get("finish_reason").and_then(Value::as_str) == Some("length");
    let tokens = |name: &str| answer.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    let prompt = match &ask.prompt {
        Prompt::Text(text) | Prompt::Message(text) => text.as_str(),
        Prompt::Turn => "",
    };
    let guess = |text: &str| (text.len() as u64).div_ceil(BYTES_PER_TOKEN);
    let usage = match (tokens("prompt_tokens"), tokens("completion_tokens")) {
        (Some(prompt_tokens), Some(completion_tokens)) => Usage { prompt_tokens, completion_tokens, estimated: false },
        _ => Usage { prompt_tokens: guess(prompt), completion_tokens: guess(text), estimated: true },
    };
    Some(Completion { text: text[..end.unwrap_or(text.len())].to_string(), cut, usage: Some(usage) })
}

impl Teacher for Server {
    fn name(&self) -> &str {
        &self.model
    }

    fn asks_at_once(&self) -> usize {
        // While the slowest of a wave is awaited, the others are answered.
        4 * self.options.concurrency
    }

    fn ask(
        &mut self,
        asks: &[&Ask],
        stop: &dyn Fn() -> bool,
        each: &mut dyn FnMut(usize, Completion) -> Result<bool>,
    ) -> Result<()> {
        let server = &*self;
        let (next, stopped) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        thread::scope(|scope| {
            let (sender, answers) = mpsc::channel();
            for _ in 0..server.options.concurrency.clamp(1, asks.len().max(1)) {
                let sender = sender.clone();
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(ask) = asks.get(index) else { break };
                        let answer = server.answer(ask, stopped);
                        if sender.send((index, answer)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut result = Ok(());
            // After an error or a stop, what is under way is still taken: it has been paid for.
            loop {
                let (index, answer) = match answers.recv_timeout(LOOK) {
                    Ok(answered) => answered,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        stopped.fetch_or(stop(), Ordering::Relaxed);
                        continue;
                    }
                };
                let given = match answer {
                    Ok(Some(completion)) => each(index, completion),
                    Ok(None) => Ok(false),
                    Err(error) => Err(error),
                };
                stopped.fetch_or(!matches!(given, Ok(true)), Ordering::Relaxed);
                result = result.and(given.map(drop));
            }
            result
        })
    }
}

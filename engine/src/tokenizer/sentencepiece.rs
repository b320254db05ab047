//! SentencePiece's `tokenizer.model`: a protocol buffer of pieces and normalisation rules
//! (google/sentencepiece, `sentencepiece_model.proto`).

use super::MAX_VOCABULARY;
use crate::{Error, Result};

const FILE: &str = "tokenizer.model";

/// Limit on the length of a piece, because merges are searched for at every cut of a piece; no published vocabulary
/// comes near it.
const MAX_PIECE_BYTES: usize = 512;

/// What a piece is for (`SentencePiece.Type`, and `tokenizer.ggml.token_type` of GGUF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Text.
    Normal,
    /// Stands for characters that are not in the vocabulary.
    Unknown,
    /// Never part of a text: BOS, EOS.
    Control,
    /// Always cut out of a text as a whole.
    UserDefined,
    /// Not used.
    Unused,
    /// `<0x0A>`: one byte.
    Byte,
}

impl PieceKind {
    /// The kind with the number that both file formats give it.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        let kinds = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        kinds.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }
}

/// An entry of the vocabulary; its index is its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its spelling, with "▁" for a space.
    pub text: String,
    /// Log-probability (Unigram), or minus its rank (BPE).
    pub score: f32,
    /// What it is for.
    pub kind: PieceKind,
}

/// How a text is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The likeliest sequence of pieces.
    Unigram,
    /// The best pair is merged until none is left.
    Bpe,
}

/// How a text is prepared before it is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalization {
    /// A compiled trie of character replacements; empty if there are none.
    pub charsmap: Vec<u8>,
    /// A space is put before the text.
    pub add_dummy_prefix: bool,
    /// Spaces at both ends are removed, and runs of spaces become one.
    pub remove_extra_whitespaces: bool,
}

/// A whole `tokenizer.model`.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The vocabulary, by id.
    pub pieces: Vec<Piece>,
    /// How a text is cut.
    pub algorithm: Algorithm,
    /// Characters that are not in the vocabulary are written as bytes.
    pub byte_fallback: bool,
    /// How a text is prepared.
    pub normalization: Normalization,
    /// Id of the unknown piece.
    pub unknown: Option<u32>,
    /// Id of the beginning of sequence.
    pub bos: Option<u32>,
    /// Id of the end of sequence.
    pub eos: Option<u32>,
}

/// Reads a `tokenizer.model`. Hostile bytes are safe: no allocation depends on a number that the file states.
///
/// # Errors
/// When the bytes are not a protocol buffer of that kind, or ask for what LLaMA's tokenizers do not have.
pub fn parse(bytes: &[u8]) -> Result<Model> {
    if is_tiktoken(bytes) {
        return Err(Error::Unsupported(format!(
            "{FILE} is a tiktoken file, as Llama 3 and later models have it, and not SentencePiece's; put the \
             tokenizer.json of the model's Hugging Face folder beside it"
        )));
    }
    // The defaults are those of the .proto file.
    let mut model = Model {
        pieces: Vec::new(),
        algorithm: Algorithm::Unigram,
        byte_fallback: false,
        normalization: Normalization { charsmap: Vec::new(), add_dummy_prefix: true, remove_extra_whitespaces: true },
        unknown: Some(0),
        bos: Some(1),
        eos: Some(2),
    };
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(piece)) if model.pieces.len() < MAX_VOCABULARY => model.pieces.push(parse_piece(piece)?),
            (2, Field::Bytes(trainer)) => parse_trainer(trainer, &mut model)?,
            (3, Field::Bytes(normalizer)) => parse_normalizer(normalizer, &mut model.normalization)?,
            (1..=3, _) => return Err(damaged("a part of it is not a message")),
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err(damaged("it holds no pieces"));
    }
    let size = model.pieces.len();
    let inside = |id: &u32| usize::try_from(*id).is_ok_and(|id| id < size);
    model.unknown = model.unknown.filter(inside);
    model.bos = model.bos.filter(inside);
    model.eos = model.eos.filter(inside);
    Ok(model)
}

/// Whether this is a vocabulary of tiktoken's: a token in base64 and its rank on every line.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return false };
    let (token, rank) = (&line[..space], line[space + 1..].trim_ascii_end());
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    !token.is_empty() && token.iter().all(is_base64) && !rank.is_empty() && rank.iter().all(u8::is_ascii_digit)
}

fn parse_piece(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                piece.text = String::from_utf8(text.to_vec()).map_err(|_| damaged("a piece is not UTF-8"))?;
            }
            (2, Field::Fixed32(score)) => piece.score = f32::from_bits(score),
            (3, Field::Varint(kind)) => {
                piece.kind = PieceKind::from_number(kind)
                    .ok_or_else(|| damaged(&format!("a piece is of the unknown kind {kind}")))?;
            }
            (1..=3, _) => return Err(damaged("a piece has fields of the wrong type")),
            _ => {}
        }
    }
    if piece.text.is_empty() || piece.text.len() > MAX_PIECE_BYTES || !piece.score.is_finite() {
        return Err(damaged(&format!(
            "a piece has {} bytes and the score {}; expected 1 to {MAX_PIECE_BYTES} bytes and a number",
            piece.text.len(),
            piece.score
        )));
    }
    Ok(piece)
}

fn parse_trainer(bytes: &[u8], model: &mut Model) -> Result<()> {
    // An id of -1 says that there is no such piece.
    let id = |value: u64| u32::try_from(value).ok();
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (3, Field::Varint(1)) => model.algorithm = Algorithm::Unigram,
            (3, Field::Varint(2)) => model.algorithm = Algorithm::Bpe,
            (3, _) => {
                return Err(Error::Unsupported(format!(
                    "{FILE}: this is a word or character model; LLaMA's are BPE or Unigram"
                )));
            }
            (24, Field::Varint(1)) => {
                return Err(Error::Unsupported(format!(
                    "{FILE}: spaces end a piece in this model; in LLaMA's they begin it"
                )));
            }
            (35, Field::Varint(value)) => model.byte_fallback = value != 0,
            (40, Field::Varint(value)) => model.unknown = id(value),
            (41, Field::Varint(value)) => model.bos = id(value),
            (42, Field::Varint(value)) => model.eos = id(value),
            _ => {}
        }
    }
    Ok(())
}

fn parse_normalizer(bytes: &[u8], normalization: &mut Normalization) -> Result<()> {
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Field::Bytes(charsmap)) => normalization.charsmap = charsmap.to_vec(),
            (3, Field::Varint(value)) => normalization.add_dummy_prefix = value != 0,
            (4, Field::Varint(value)) => normalization.remove_extra_whitespaces = value != 0,
            (5, Field::Varint(0)) => {
                return Err(Error::Unsupported(format!(
                    "{FILE}: this model keeps spaces as they are; LLaMA's write ▁"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn damaged(problem: &str) -> Error {
    Error::format(FILE, format!("{problem}; is this SentencePiece's file, and whole?"))
}

/// A field's value in the protocol buffers' encoding.
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The rest of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Field::Fixed32(self.take(4)?.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))),
            kind => return Err(damaged(&format!("it has a field of the unknown encoding {kind}"))),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.0.split_at_checked(length).ok_or_else(|| damaged("it ends in the middle of a field"))?;
        self.0 = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.iter().fold(0, |_, &byte| u64::from(byte));
            value |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged("a number in it has no end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        message(1, &[message(1, text.as_bytes()), score, vec![3 << 3, kind]].concat())
    }

    #[test]
    fn fields_are_read_and_defaults_kept() {
        let trainer =
            message(2, &[3 << 3, 2, 0x98, 2, 1, 0xD8, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
        let normalizer = message(3, &[4 << 3, 0]);
        let bytes = [piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1), trainer, normalizer].concat();
        let model = parse(&bytes).unwrap();
        assert_eq!(model.algorithm, Algorithm::Bpe);
        assert!(model.byte_fallback && model.normalization.add_dummy_prefix);
        assert!(!model.normalization.remove_extra_whitespaces);
        assert_eq!(model.pieces[1], Piece { text: "▁a".into(), score: -1.5, kind: PieceKind::Normal });
        assert_eq!((model.unknown, model.bos, model.eos), (Some(0), Some(1), None));
    }

    #[test]
    fn every_truncation_is_an_error_or_a_smaller_model() {
        let bytes = [piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1)].concat();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).map_or(true, |model| model.pieces.len() == 1), "at {length}");
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_refused_without_allocating() {
        let huge = [1 << 3 | 2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        let error = parse(&huge).unwrap_err().to_string();
        assert!(error.contains("in the middle of a field"), "{error}");
        assert!(parse(&[0xFF; 32]).unwrap_err().to_string().contains("no end"));
    }

    #[test]
    fn a_tiktoken_file_is_named_as_such() {
        for file in ["IQ== 0\nIg== 1\n", "IQ== 0\r\nIg== 1", "IQ== 0"] {
            let error = parse(file.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("tiktoken") && error.contains("tokenizer.json"), "{error}");
        }
        for file in ["IQ==", "IQ== x\n", " 0\n", "\n", "I! 0"] {
            assert!(!is_tiktoken(file.as_bytes()), "{file}");
        }
    }

    #[test]
    fn nonsense_pieces_are_refused() {
        for bytes in [piece("", 0.0, 1), piece("a", f32::NAN, 1), piece("a", 0.0, 9), message(1, &[10, 1, 0xFF])] {
            assert!(parse(&bytes).is_err());
        }
        assert!(parse(&[]).unwrap_err().to_string().contains("no pieces"));
    }

    /// A field with a small number as its value.
    fn number(field: u8, value: u8) -> Vec<u8> {
        let tag = u16::from(field) << 3;
        vec![(tag & 0x7F) as u8 | 0x80, (tag >> 7) as u8, value]
    }

    fn model(trainer: &[u8], normalizer: &[u8]) -> Result<Model> {
        let pieces = ["a", "b", "c", "d", "e", "f"].map(|text| piece(text, 0.0, 1)).concat();
        parse(&[pieces, message(2, trainer), message(3, normalizer)].concat())
    }

    /// Field numbers of `sentencepiece_model.proto`.
    #[test]
    fn what_the_trainer_and_the_normaliser_say_is_taken_over() {
        let defaults = model(&[], &[]).unwrap();
        assert_eq!((defaults.unknown, defaults.bos, defaults.eos), (Some(0), Some(1), Some(2)));
        let ids = model(&[number(40, 5), number(41, 4), number(42, 3)].concat(), &[]).unwrap();
        assert_eq!((ids.unknown, ids.bos, ids.eos), (Some(5), Some(4), Some(3)));
        let beyond = model(&[number(40, 6), number(41, 6), number(42, 6)].concat(), &[]).unwrap();
        assert_eq!((beyond.unknown, beyond.bos, beyond.eos), (None, None, None));
        assert_eq!(model(&number(3, 1), &[]).unwrap().algorithm, Algorithm::Unigram);
        let rules = model(&[], &[message(2, b"map"), number(3, 0), number(4, 1), number(5, 1)].concat()).unwrap();
        let expected =
            Normalization { charsmap: b"map".to_vec(), add_dummy_prefix: false, remove_extra_whitespaces: true };
        assert_eq!(rules.normalization, expected);
    }

    #[test]
    fn what_llama_s_tokenizers_do_not_have_is_refused() {
        let refused = |model: Result<Model>| matches!(model, Err(Error::Unsupported(_)));
        assert!(refused(model(&number(3, 3), &[])) && refused(model(&number(3, 4), &[])));
        assert!(refused(model(&number(24, 1), &[])) && !refused(model(&number(24, 0), &[])));
        assert!(refused(model(&[], &number(5, 0))));
    }

    #[test]
    fn fields_of_the_wrong_type_are_refused() {
        for field in 1..=3 {
            assert!(parse(&[piece("a", 0.0, 1), number(field, 1)].concat()).is_err(), "{field}");
        }
        assert!(parse_piece(&message(1, b"a")).is_ok());
        assert!(parse_piece(&[message(1, b"a"), number(2, 1)].concat()).is_err());
    }

    #[test]
    fn a_piece_has_at_most_512_bytes() {
        // The length in two groups of seven bits, the lower first.
        let long = |low: u8, length: usize| [vec![1 << 3 | 2, low, 4], vec![b'a'; length]].concat();
        assert_eq!(parse_piece(&long(0x80, 512)).unwrap().text, "a".repeat(512));
        assert!(parse_piece(&long(0x81, 513)).is_err());
        assert!(parse_piece(&long(0x82, 514)).is_err());
    }
}

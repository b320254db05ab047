//! Finds out why a recovered tensor differs from the tuned model's, by trying the likely causes on it.

use super::description::Method;
use super::numbers::Tally;
use super::recover::Recovery;
use crate::Result;
use crate::weights::{Encoding, Source, half_split, recode};

/// Values of a tensor that are in memory at a time.
const CHUNK_VALUES: usize = 1 << 20;

impl<A: Source, B: Source> Recovery<A, B> {
    /// The likely cause, and what to do.
    pub(super) async fn cause(&mut self, name: &str) -> Result<String> {
        let Some(expected) = self.digest(name).cloned() else { return Ok(String::new()) };
        let stored = self.base.encoding(name);
        let rotary = name.contains(".q_proj.") || name.contains(".k_proj.");
        if rotary && self.comes_out_permuted(name, &expected.sha256).await? {
            return Ok(
                "wrong rotary layout; the base's q and k rows are in another order than Hugging Face's, convert \
                       the original with paddock convert"
                    .to_string(),
            );
        }
        for encoding in [Encoding::F16, Encoding::BF16] {
            if self.comes_out_rounded(name, encoding, &expected.sha256).await? {
                return Ok(format!(
                    "wrong dtype; the diff was made against {encoding:?} numbers and this base has {stored:?}, convert \
                     it with paddock convert --dtype {}",
                    format!("{encoding:?}").to_lowercase()
                ));
            }
        }
        if stored != expected.base_encoding {
            let made = expected.base_encoding;
            return Ok(format!(
                "wrong dtype or wrong base; the diff was made against {made:?} numbers and this base has {stored:?}, take \
                 the original"
            ));
        }
        Ok("wrong base, or a damaged diff; take the very model that the diff was made from".to_string())
    }

    /// Whether the tensor is right once the base's rows are put in the other rotary order.
    async fn comes_out_permuted(&mut self, name: &str, sha256: &str) -> Result<bool> {
        let info = self.info(name)?;
        let head = self.config().head_dim;
        let rows = info.shape[0];
        if rows == 1 || !rows.is_multiple_of(head) {
            return Ok(false);
        }
        let base = self.base_rows(name, 0..rows).await?;
        let row_bytes = base.len() / rows;
        // Hugging Face's order read as Meta's, and Meta's as Hugging Face's.
        let split = half_split(&base, row_bytes, head, 0..rows);
        let mut interleaved = Vec::with_capacity(base.len());
        for row in 0..rows {
            let within = row % head;
            let from = (row - within + within % 2 * (head / 2) + within / 2) * row_bytes;
            interleaved.extend_from_slice(base.get(from..from + row_bytes).unwrap_or_default());
        }
        for base in [split, interleaved] {
            let (_, kept, _) = self.add(&info, 0..rows, &base).await?;
            let mut tally = Tally::default();
            tally.add(&kept, &[]);
            if tally.sha256() == sha256 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the tensor is right once the base is rounded to `encoding`.
    async fn comes_out_rounded(&mut self, name: &str, encoding: Encoding, sha256: &str) -> Result<bool> {
        if self.method == Method::Exact || self.base.encoding(name) == encoding {
            return Ok(false);
        }
        let info = self.info(name)?;
        let per_chunk = (CHUNK_VALUES / info.shape[1]).max(1);
        let mut tally = Tally::default();
        let mut row = 0;
        while row < info.shape[0] {
            let rows = row..info.shape[0].min(row + per_chunk);
            row = rows.end;
            let base = self.base_rows(name, rows.clone()).await?;
            // Numbers beyond f16 are no reason to stop looking.
            let Ok(rounded) = recode(base, Encoding::F32, encoding) else { return Ok(false) };
            let base = recode(rounded, encoding, Encoding::F32)?;
            let (_, kept, _) = self.add(&info, rows, &base).await?;
            tally.add(&kept, &[]);
        }
        Ok(tally.sha256() == sha256)
    }
}

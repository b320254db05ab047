//! Where a source file can be changed, and its text with every change in it, each behind a switch.

use std::collections::BTreeMap;
use std::ops::Range;

use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::list::Mutant;

/// A range of bytes of a rewritten file and the mutants whose code stands in it.
pub struct Piece {
    pub range: Range<usize>,
    pub mutants: Vec<u32>,
    /// Whether this is the changed code itself, and not what chooses among changes.
    pub is_change: bool,
}

/// A rewritten file.
#[derive(Default)]
pub struct Rewritten {
    pub text: String,
    pub pieces: Vec<Piece>,
    /// Mutants of the list for which no place was found.
    pub unplaced: Vec<u32>,
}

/// A place in a file that mutants change.
struct Site {
    range: Range<usize>,
    form: Form,
}

enum Form {
    /// What a function does first.
    Body(Vec<(u32, String)>),
    /// `left operator right`.
    Binary { left: Range<usize>, right: Range<usize>, operator: String, kind: Kind, others: Vec<(u32, String)> },
    /// `operator operand`, of which the operator is taken away.
    Unary { operand: Range<usize>, operator: String, number: u32 },
    /// A `match` of which arms are deleted.
    Match(Vec<u32>),
    /// The guard of an arm, which may have none.
    Guard { guard: Option<Range<usize>>, deleted: Option<u32>, yes: Option<u32>, no: Option<u32> },
    /// The value of a field that is taken from the rest of a struct instead.
    Field { value: Range<usize>, short: Option<String>, member: String, rest: Range<usize>, number: u32 },
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Value,
    Comparison,
    Lazy,
    Assignment,
}

/// Puts `mutants`, all of the file `source`, into it. `switch` is the path of the function that tells whether a mutant
/// is the one that runs.
pub fn rewrite(source: &str, mutants: &[&Mutant], switch: &str) -> Result<Rewritten, syn::Error> {
    let file = syn::parse_file(source)?;
    let mut finder = Finder { wanted: BTreeMap::new(), sites: Vec::new(), lines: line_starts(source), source };
    for mutant in mutants {
        let start = (mutant.span.start.line, mutant.span.start.column - 1);
        finder.wanted.entry((start, mutant.genre.clone())).or_default().push(mutant);
    }
    finder.visit_file(&file);
    let mut sites = finder.sites;
    // Outer sites first; a body is inserted before anything that begins where it does.
    sites.sort_by_key(|site| (site.range.start, !matches!(site.form, Form::Body(_)), usize::MAX - site.range.end));
    let unplaced = finder.wanted.values().flatten().map(|mutant| mutant.number).collect();
    let mut writer = Writer { source, sites, switch, out: Rewritten { unplaced, ..Rewritten::default() } };
    writer.copy(0..source.len(), 0);
    Ok(writer.out)
}

fn line_starts(source: &str) -> Vec<usize> {
    std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct Finder<'a> {
    /// Mutants by where they begin (line from 1, column from 0) and genre.
    wanted: BTreeMap<((usize, usize), String), Vec<&'a Mutant>>,
    sites: Vec<Site>,
    lines: Vec<usize>,
    source: &'a str,
}

impl<'a> Finder<'a> {
    fn take(&mut self, at: LineColumn, genre: &str) -> Vec<&'a Mutant> {
        self.wanted.remove(&((at.line, at.column), genre.to_string())).unwrap_or_default()
    }

    fn offset(&self, at: LineColumn) -> usize {
        let line = &self.source[self.lines[at.line - 1]..];
        self.lines[at.line - 1] + line.char_indices().nth(at.column).map_or(line.len(), |(offset, _)| offset)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let Some(first) = block.stmts.first() else { return };
        // All that returns from one function that gives `impl Trait` must be of one type.
        if self.source[self.range(signature.output.span())].contains("impl ") {
            return;
        }
        let start = first.span().start();
        let found = self.take(start, "FnValue");
        if !found.is_empty() {
            let at = self.offset(start);
            let values = found.iter().map(|mutant| (mutant.number, mutant.replacement.clone())).collect();
            self.sites.push(Site { range: at..at, form: Form::Body(values) });
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let found = self.take(binary.op.span().start(), "BinaryOperator");
        // In `a && let …` no other operator may stand.
        if !found.is_empty() && !has_let(&binary.left) && !has_let(&binary.right) {
            let operator = self.source[self.range(binary.op.span())].to_string();
            let kind = match &*operator {
                "==" | "!=" | "<" | ">" | "<=" | ">=" => Kind::Comparison,
                "&&" | "||" => Kind::Lazy,
                other if other.ends_with('=') => Kind::Assignment,
                _ => Kind::Value,
            };
            let others = found.iter().map(|mutant| (mutant.number, mutant.replacement.clone())).collect();
            let (left, right) = (self.range(binary.left.span()), self.range(binary.right.span()));
            let range = left.start..right.end;
            self.sites.push(Site { range, form: Form::Binary { left, right, operator, kind, others } });
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        for mutant in self.take(unary.op.span().start(), "UnaryOperator") {
            let operator = self.source[self.range(unary.op.span())].to_string();
            let form = Form::Unary { operand: self.range(unary.expr.span()), operator, number: mutant.number };
            self.sites.push(Site { range: self.range(unary.span()), form });
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        let starts = expression.arms.iter().map(|arm| arm.span().start());
        let deleted: Vec<u32> = starts
            .filter_map(|start| self.wanted.get(&((start.line, start.column), "MatchArm".to_string()))?.first())
            .map(|mutant| mutant.number)
            .collect();
        if !deleted.is_empty() {
            self.sites.push(Site { range: self.range(expression.span()), form: Form::Match(deleted) });
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let deleted = self.take(arm.span().start(), "MatchArm").first().map(|mutant| mutant.number);
        let guard = arm.guard.as_ref().map(|(_, guard)| guard.span());
        let found = guard.map_or_else(Vec::new, |guard| self.take(guard.start(), "MatchArmGuard"));
        let of = |value: &str| found.iter().find(|mutant| mutant.replacement == value).map(|mutant| mutant.number);
        let (yes, no) = (of("true"), of("false"));
        if deleted.is_some() || yes.is_some() || no.is_some() {
            let guard = guard.map(|guard| self.range(guard));
            let end = self.range(arm.pat.span()).end;
            self.sites
                .push(Site { range: guard.clone().unwrap_or(end..end), form: Form::Guard { guard, deleted, yes, no } });
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        for field in &expression.fields {
            for mutant in self.take(field.span().start(), "StructField") {
                let Some(rest) = &expression.rest else { continue };
                let member = self.source[self.range(field.member.span())].to_string();
                let short = field.colon_token.is_none().then(|| member.clone());
                let value = self.range(field.expr.span());
                let form = Form::Field {
                    value: value.clone(),
                    short,
                    member,
                    rest: self.range(rest.span()),
                    number: mutant.number,
                };
                self.sites.push(Site { range: value, form });
            }
        }
        visit::visit_expr_struct(self, expression);
    }
}

fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

struct Writer<'a> {
    source: &'a str,
    sites: Vec<Site>,
    switch: &'a str,
    out: Rewritten,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        self.out.text.push_str(text);
    }

    /// Writes a range of the source with the sites in it, of which those before `from` are written already.
    fn copy(&mut self, range: Range<usize>, from: usize) {
        let mut at = range.start;
        for index in from..self.sites.len() {
            let site = self.sites[index].range.clone();
            if site.start < at || site.end > range.end {
                if site.start >= range.end {
                    break;
                }
                continue;
            }
            self.push(&self.source[at..site.start]);
            self.site(index);
            at = site.end;
        }
        self.push(&self.source[at..range.end]);
    }

    /// Writes what `write` does and notes that it belongs to `mutants`.
    fn piece(&mut self, mutants: Vec<u32>, is_change: bool, write: impl FnOnce(&mut Self)) {
        let start = self.out.text.len();
        write(self);
        self.out.pieces.push(Piece { range: start..self.out.text.len(), mutants, is_change });
    }

    fn change(&mut self, number: u32, text: &str) {
        self.piece(vec![number], true, |writer| writer.push(text));
    }

    fn is(&self, number: u32) -> String {
        format!("{}({number})", self.switch)
    }

    fn site(&mut self, index: usize) {
        let next = index + 1;
        match std::mem::replace(&mut self.sites[index].form, Form::Body(Vec::new())) {
            Form::Body(values) => {
                for (number, value) in &values {
                    self.piece(vec![*number], false, |writer| {
                        writer.push(&format!("if {} {{ return ", writer.is(*number)));
                        writer.change(*number, value);
                        writer.push("; } ");
                    });
                }
                self.sites[index].form = Form::Body(values);
            }
            Form::Binary { left, right, operator, kind, others } => {
                let numbers = others.iter().map(|(number, _)| *number).collect();
                self.piece(numbers, false, |writer| {
                    writer.binary(next, left.clone(), right.clone(), &operator, kind, &others);
                });
                self.sites[index].form = Form::Binary { left, right, operator, kind, others };
            }
            Form::Unary { operand, operator, number } => {
                self.piece(vec![number], false, |writer| {
                    writer.push("(match (");
                    writer.copy(operand.clone(), next);
                    writer.push(&format!(") {{ mutant_v => if {} {{ ", writer.is(number)));
                    writer.change(number, "mutant_v");
                    writer.push(&format!(" }} else {{ {operator}mutant_v }} }})"));
                });
                self.sites[index].form = Form::Unary { operand, operator, number };
            }
            Form::Match(deleted) => {
                let range = self.sites[index].range.clone();
                self.piece(deleted.clone(), false, |writer| writer.copy(range, next));
                self.sites[index].form = Form::Match(deleted);
            }
            Form::Guard { guard, deleted, yes, no } => {
                let numbers = [deleted, yes, no].into_iter().flatten().collect();
                self.piece(numbers, false, |writer| {
                    let is = |number: Option<u32>| number.map_or("false".to_string(), |number| writer.is(number));
                    let start = format!("!{} && ({} || (!{} && (", is(deleted), is(yes), is(no));
                    let if_ = if guard.is_none() { " if " } else { "" };
                    writer.push(&format!("{if_}{start}"));
                    match &guard {
                        Some(guard) => writer.copy(guard.clone(), next),
                        None => writer.push("true"),
                    }
                    writer.push(")))");
                });
                self.sites[index].form = Form::Guard { guard, deleted, yes, no };
            }
            Form::Field { value, short, member, rest, number } => {
                self.piece(vec![number], false, |writer| {
                    let name = short.as_ref().map_or(String::new(), |name| format!("{name}: "));
                    writer.push(&format!("{name}if {} {{ ", writer.is(number)));
                    let other = format!("({}).{member}", &writer.source[rest.clone()]);
                    writer.change(number, &other);
                    writer.push(" } else { ");
                    writer.copy(value.clone(), next);
                    writer.push(" }");
                });
                self.sites[index].form = Form::Field { value, short, member, rest, number };
            }
        }
    }

    fn binary(
        &mut self,
        next: usize,
        left: Range<usize>,
        right: Range<usize>,
        operator: &str,
        kind: Kind,
        others: &[(u32, String)],
    ) {
        match kind {
            Kind::Lazy => {
                // `a && b` and `a || b` are the same expression but for what they ask of `a`.
                let number = others[0].0;
                self.push("(match (");
                self.copy(left, next);
                let equal = if operator == "&&" { "==" } else { "!=" };
                self.push(&format!(") {{ mutant_l => if mutant_l {equal} {} {{ mutant_l }} else {{ ", self.is(number)));
                self.copy(right, next);
                self.push(" } })");
            }
            Kind::Assignment => {
                self.push("match (");
                self.copy(right, next);
                self.push(") { mutant_r => ");
                for (number, other) in others {
                    self.push(&format!("if {} {{ ", self.is(*number)));
                    let place = self.source[left.clone()].to_string();
                    self.change(*number, &format!("{place} {other} mutant_r"));
                    self.push(" } else ");
                }
                self.push("{ ");
                self.copy(left, next);
                self.push(&format!(" {operator} mutant_r }} }}"));
            }
            Kind::Value | Kind::Comparison => {
                let (reference, l, r) =
                    if kind == Kind::Value { ("", "mutant_l", "mutant_r") } else { ("&", "*mutant_l", "*mutant_r") };
                self.push(&format!("(match ({reference}("));
                self.copy(left, next);
                self.push(&format!("), {reference}("));
                self.copy(right, next);
                self.push(")) { (mutant_l, mutant_r) => ");
                for (number, other) in others {
                    self.push(&format!("if {} {{ ", self.is(*number)));
                    self.change(*number, &format!("{l} {other} {r}"));
                    self.push(" } else ");
                }
                self.push(&format!("{{ {l} {operator} {r} }} }})"));
            }
        }
    }
}

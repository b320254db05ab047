//! The words that the rules in [`super`] know. Written for this purpose: what instructions to a language model begin with.

/// Verbs that an instruction can ask for, in their base form.
const VERBS: &str = "
abbreviate accept access act adapt add address adjust advise agree align allocate allow alphabetize alter analyse analyze
annotate announce answer anticipate apologize append apply approve argue arrange ask assemble assess assign assist associate
assume attach attempt automate balance begin bind blend book boost brainstorm break bring build buy calculate call capitalize
categorise categorize celebrate change characterize chart check choose cite clarify classify clean close code collect color
combine come comment communicate compare compile complete compose compress compute conclude condense conduct connect consider
construct contain contrast contribute convert convince cook copy correct correlate count cover craft create criticize
critique cut debate debug decide declare decode decompose decrease deduce define delete deliver demonstrate denote depict
derive describe design detail detect determine develop devise diagnose differentiate discover discuss display dispute
distinguish distribute divide document download draft draw edit elaborate eliminate email emphasize employ encode encourage
end enhance enter entitle enumerate establish estimate evaluate examine exclude execute exemplify expand expect explain
explore express extend extract face factor fill filter find finish fit fix flag focus follow forecast form format formulate
gather generate get give go grade greet group guess handle help highlight hypothesize identify illustrate imagine imitate
implement improve include incorporate increase indicate infer inform insert inspect instruct integrate interpret introduce
invent investigate invite join judge justify keep know label learn leave let link list locate look maintain make manage mark
match maximize measure mention merge minimize mix modify motivate move multiply name narrate need negotiate normalize note
obtain offer open optimize order organise organize outline output overcome pair paraphrase parse perform persuade pick plan
play point polish pose predict prepare present preserve prevent print prioritize proofread process produce program promote
pronounce propose protect prove provide publish punctuate question quote raise rank rate rate reach read rearrange reason
rebuild recall recite recognise recognize recommend reconstruct record rectify recycle redesign reduce refactor refer refine
reflect reformat reformulate refute regulate relate release remove rename reorder reorganize reorder repair repeat rephrase
replace report represent research resolve respond restate restore restructure retell retrieve return reverse review revise
reword rewrite rhyme role-play round run save say schedule score search select send separate sequence set share shorten show
sign simplify simulate sing sketch solve sort speak specify spell split stand start state stop structure study submit
substitute subtract suggest sue sum summarise summarize supply support suppose survey swap switch take talk teach tell test
think track train transcribe transform translate transpose travel treat trim try turn type understand uncover update use
validate verify view visit visualize vote wait walk want warn wash watch wear weigh win work write";

/// Past forms and participles that end neither in -ed nor in -ing, with their base form.
const IRREGULAR: [(&str, &str); 24] = [
    ("began", "begin"),
    ("broke", "break"),
    ("brought", "bring"),
    ("built", "build"),
    ("came", "come"),
    ("chose", "choose"),
    ("chosen", "choose"),
    ("did", "do"),
    ("drew", "draw"),
    ("found", "find"),
    ("gave", "give"),
    ("given", "give"),
    ("had", "have"),
    ("has", "have"),
    ("made", "make"),
    ("said", "say"),
    ("sent", "send"),
    ("taken", "take"),
    ("told", "tell"),
    ("took", "take"),
    ("understood", "understand"),
    ("won", "win"),
    ("written", "write"),
    ("wrote", "write"),
];

/// Words that end a noun phrase, or say that none follows.
const BOUNDARIES: &str = "
about above according across after against along although among and around as at based because before behind below beneath
beside besides between beyond but by despite down due during except for from how if in inside instead into is are was were be has
have had can could should would will may might must do does did like near of off on onto or out over per rather regarding
since so such than that then there through throughout to toward towards under unless until up upon using versus via what
when where whereas whether which while who whom whose why with within without";

/// Words before a noun that are none themselves.
const DETERMINERS: &str = "
a all an another any both each either every few five following four given her his its many more most my no one other our
several some ten that the their these this those three two whatever your";

/// Words that stand for a person and can come between a verb and its object.
const PRONOUNS: &str =
    "anything everyone everything he her him i it me nothing one she someone something them they us we you yourself";

/// Parts of phrasal verbs.
const PARTICLES: &str = "apart away back down off out over up";

/// Adverbs and adjectives that are no nouns and end in no telling letters.
const MODIFIERS: &str = "
also available below briefly correctly early else first here important last later next now often out possible separately
today together too very well";

/// Verbs of being and helping, which ask for nothing.
const AUXILIARIES: &str =
    "am are be been being can could did do does had has have is may might must shall should was were will would";

/// Nouns whose plural follows no rule.
const PLURALS: [(&str, &str); 16] = [
    ("analyses", "analysis"),
    ("children", "child"),
    ("criteria", "criterion"),
    ("crises", "crisis"),
    ("data", "datum"),
    ("feet", "foot"),
    ("hypotheses", "hypothesis"),
    ("leaves", "leaf"),
    ("lives", "life"),
    ("men", "man"),
    ("people", "people"),
    ("phenomena", "phenomenon"),
    ("movies", "movie"),
    ("teeth", "tooth"),
    ("theses", "thesis"),
    ("women", "woman"),
];

/// Nouns that end in s in the singular.
const SINGULARS: &str = "
analysis basis bias bus business canvas chaos chess christmas class consensus crisis diabetes economics emphasis ethics focus
gas genesis glass goods hypothesis lens mathematics news physics politics process series species status stress syllabus
synopsis synthesis thesis virus";

fn holds(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == word)
}

/// The base form of a verb that the lexicon knows.
pub fn verb(word: &str) -> Option<String> {
    let known = |base: &str| holds(VERBS, base).then(|| base.to_string());
    if let Some(base) = known(word) {
        return Some(base);
    }
    if let Some((_, base)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return known(base);
    }
    let stem = ["ing", "ed", "es", "s"].iter().find_map(|ending| word.strip_suffix(ending))?;
    let doubled = stem.chars().rev().take(2).collect::<Vec<_>>();
    let single = match doubled[..] {
        [a, b] if a == b => &stem[..stem.len() - a.len_utf8()],
        _ => stem,
    };
    known(&format!("{stem}e"))
        .or_else(|| known(stem))
        .or_else(|| known(single))
        .or_else(|| known(&format!("{}y", stem.strip_suffix('i')?)))
}

/// Whether a noun phrase ends before this word.
pub fn is_boundary(word: &str) -> bool {
    holds(BOUNDARIES, word)
}

/// Whether this word stands before a noun.
pub fn is_determiner(word: &str) -> bool {
    holds(DETERMINERS, word)
}

/// Whether this word stands for a person.
pub fn is_pronoun(word: &str) -> bool {
    holds(PRONOUNS, word)
}

/// Whether this word belongs to the verb before it.
pub fn is_particle(word: &str) -> bool {
    holds(PARTICLES, word)
}

/// Whether this word is an adverb, or an adjective that stands alone.
pub fn is_modifier(word: &str) -> bool {
    holds(MODIFIERS, word) || (word.len() > 4 && word.ends_with("ly"))
}

/// Whether this verb only helps another.
pub fn is_auxiliary(word: &str) -> bool {
    holds(AUXILIARIES, word)
}

/// The singular of a noun.
pub fn singular(word: &str) -> String {
    if let Some((_, singular)) = PLURALS.iter().find(|(plural, _)| *plural == word) {
        return (*singular).to_string();
    }
    if holds(SINGULARS, word)
        || word.len() < 4
        || !word.ends_with('s')
        || word.ends_with("ss")
        || word.ends_with("us")
        || word.ends_with("sis")
    {
        return word.to_string();
    }
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let hisses = ["ches", "shes", "sses", "xes", "zes"].iter().any(|ending| word.ends_with(ending));
    word[..word.len() - if hisses { 2 } else { 1 }].to_string()
}

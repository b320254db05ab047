// How the token of each row is chosen: 7 words a row, from word `params.table` of the tables on.
fn row_word(row: u32, word: u32) -> u32 {
    return tables[params.table + 7u * row + word];
}

// The slot whose seen tokens are penalised.
fn slot_of(row: u32) -> u32 {
    return row_word(row, 0u);
}

fn penalty_of(row: u32) -> f32 {
    return bitcast<f32>(row_word(row, 1u));
}

// 0 takes the token of the highest score; nothing is drawn.
fn temperature_of(row: u32) -> f32 {
    return bitcast<f32>(row_word(row, 2u));
}

fn top_k_of(row: u32) -> u32 {
    return row_word(row, 3u);
}

fn top_p_of(row: u32) -> f32 {
    return bitcast<f32>(row_word(row, 4u));
}

fn log_min_p_of(row: u32) -> f32 {
    return bitcast<f32>(row_word(row, 5u));
}

fn seed_of(row: u32) -> u32 {
    return row_word(row, 6u);
}

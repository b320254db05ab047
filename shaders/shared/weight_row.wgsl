// Output `index` is row `index` of the weight; beyond the last row, where nothing is stored, any row will do.
fn weight_row(index: u32) -> u32 {
    return min(index, params.rows - 1u);
}

// Sum over the K_LANES invocations of a row lane, which are one subgroup: no workgroup memory and no barrier.
fn reduce(part: Dots, lane: u32) -> Dots {
    return Dots(part.first, subgroupAdd(part.values), subgroupAdd(part.squares), part.whole);
}

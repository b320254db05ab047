// Sum over the K_LANES invocations of a row lane, through workgroup memory.
var<workgroup> parts: array<vec4<f32>, THREADS>;
var<workgroup> part_squares: array<f32, THREADS>;

fn reduce(part: Dots, lane: u32) -> Dots {
    parts[lane] = part.values;
    part_squares[lane] = part.squares;
    workgroupBarrier();
    var total = part;
    if (part.whole) {
        for (var other = 1u; other < K_LANES; other++) {
            total.values += parts[lane + other];
            total.squares += part_squares[lane + other];
        }
    }
    return total;
}

// Sum over a workgroup. The operation defines THREADS, its number of invocations; every invocation must call this.
var<workgroup> addends: array<f32, THREADS>;

// The sum of `value` over all invocations, in the same order on every device.
fn total(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    addends[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < THREADS; i++) {
        sum += addends[i];
    }
    return sum;
}

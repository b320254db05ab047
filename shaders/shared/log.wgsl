// Natural logarithm to f32 precision near 1 too, where WebGPU's may be off by 2⁻²¹ (Cephes, logf).
fn precise_log(value: f32) -> f32 {
    let bits = bitcast<u32>(value);
    var exponent = i32(bits >> 23u) - 126;
    var m = bitcast<f32>((bits & 0x007fffffu) | 0x3f000000u);
    if (m < 0.707106781) {
        exponent -= 1;
        m = m + m - 1.0;
    } else {
        m = m - 1.0;
    }
    let z = m * m;
    var y = 7.0376836292e-2 * m - 1.1514610310e-1;
    y = y * m + 1.1676998740e-1;
    y = y * m - 1.2420140846e-1;
    y = y * m + 1.4249322787e-1;
    y = y * m - 1.6668057665e-1;
    y = y * m + 2.0000714765e-1;
    y = y * m - 2.4999993993e-1;
    y = y * m + 3.3333331174e-1;
    let e = f32(exponent);
    return (y * m * z - 2.12194440e-4 * e - 0.5 * z) + m + 0.693359375 * e;
}

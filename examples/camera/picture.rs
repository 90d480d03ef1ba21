//! The picture that the camera sees, and the viewer's evaluation of it.

/// Side of the bright square that moves, in parts of the picture's.
const SQUARE: usize = 8;
/// A pixel that differs by so much has moved.
const MOVED: u8 = 16;

/// Draws a dim slope and a square that moves across it. `light` is 1 for an exposure of 10 ms.
pub fn draw(pixels: &mut [u8], width: usize, number: u64, light: f32) {
    let height = pixels.len() / width;
    let (side, tall) = (width.div_ceil(SQUARE), height.div_ceil(SQUARE));
    // A quarter of itself each frame: it is never where it was two frames ago.
    let left = (number as usize * side.div_ceil(4)) % (width - side + 1);
    for (y, line) in pixels.chunks_exact_mut(width).enumerate() {
        let shade = |bright: usize| (bright as f32 * light).min(255.0) as u8;
        line.fill(shade(24 + 48 * y / height));
        if y / tall == SQUARE / 2 {
            line[left..left + side].fill(shade(120));
        }
    }
}

/// Figures of three pictures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Mean of their median, which is free of what moves or flickers.
    pub brightness: f64,
    /// Share of the pixels in which the newest is not the median.
    pub motion: f64,
}

pub fn look([old, middle, new]: [&[u8]; 3]) -> Look {
    // Short sums, so that the compiler can make many at once.
    const PART: usize = 4096;
    let (mut sum, mut moved) = (0, 0);
    for ((old, middle), new) in old.chunks(PART).zip(middle.chunks(PART)).zip(new.chunks(PART)) {
        let (mut part_sum, mut part_moved) = (0u32, 0u32);
        for ((&old, &middle), &new) in old.iter().zip(middle).zip(new) {
            let median = old.min(middle).max(old.max(middle).min(new));
            part_sum += u32::from(median);
            part_moved += u32::from(new.abs_diff(median) > MOVED);
        }
        sum += u64::from(part_sum);
        moved += u64::from(part_moved);
    }
    let pixels = new.len().max(1) as f64;
    Look { brightness: sum as f64 / pixels, motion: moved as f64 / pixels }
}

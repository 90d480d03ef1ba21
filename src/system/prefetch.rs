//! Asking for a cache line before it is used. Nothing happens where the processor knows no such request.

#![allow(unsafe_code)]

/// Asks for a line that is written soon: the line comes, and with it the right to write it.
///
/// `_MM_HINT_ET0` compiles to a read prefetch unless the whole program is compiled for a processor with `prfchw`; the
/// instruction itself is understood by every 64-bit x86 processor, as nothing at worst (AMD64 Architecture
/// Programmer's Manual, volume 3, "PREFETCH"; Intel SDM, volume 2, "PREFETCHW").
#[inline]
pub(crate) fn for_writing(base: *const u8, offset: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and faults nowhere, whatever the address.
    unsafe {
        core::arch::asm!("prefetchw [{} + {}]", in(reg) base.addr(), in(reg) offset,
            options(nomem, nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{}, {}]", in(reg) base.addr(), in(reg) offset,
            options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (base, offset);
}

/// Asks for a line that is read soon.
#[inline]
pub(crate) fn for_reading(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and faults nowhere, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) line.addr(), options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = line;
}

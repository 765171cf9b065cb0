//! Vector instructions, chosen at run time.
//!
//! Kernels are written once over [`Vector`] (explicit registers) or as plain loops inside
//! `multiversion!` (left to the compiler), and compiled for AVX-512, for AVX2 with FMA and for
//! any processor. `ABN_SIMD=avx512|avx2|portable` forces a lower level than the processor has.

use std::sync::OnceLock;

use crate::host::Element;

/// Instruction set the CPU kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the compilation target has (SSE2 on x86-64, NEON on AArch64).
    Portable,
    /// AVX2 and FMA: 8 lanes of f32.
    Avx2,
    /// AVX-512F: 16 lanes of f32.
    Avx512,
}

/// The instruction set in use: the best the processor has, or a lower one named by `ABN_SIMD`.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let best = detect();
        match std::env::var("ABN_SIMD").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") => best.min(Isa::Avx2),
            _ => best,
        }
    })
}

fn detect() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2 && avx512 {
            return Isa::Avx512;
        }
        if avx2 {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

/// A vector register.
///
/// # Safety
/// Every method may only run on a processor with the instruction set that the type stands for;
/// `load` and `store` touch [`Vector::LANES`] elements at the pointer, unaligned.
#[allow(missing_docs, clippy::missing_safety_doc)] // the trait says it for all
pub unsafe trait Vector: Copy {
    type Elem: Element;
    const LANES: usize;
    unsafe fn splat(value: Self::Elem) -> Self;
    unsafe fn load(from: *const Self::Elem) -> Self;
    unsafe fn store(self, to: *mut Self::Elem);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// The larger; `other` if one is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// `self * factor + addend`
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

/// The register types of a number type, one for each instruction set.
pub trait Lanes: Sized {
    /// With AVX-512.
    type Avx512: Vector<Elem = Self>;
    /// With AVX2 and FMA.
    type Avx2: Vector<Elem = Self>;
    /// On any processor.
    type Portable: Vector<Elem = Self>;
}

/// Lanes as an array, which the compiler puts into registers by itself: one of SSE, whose 16 a tile soon
/// fills, or two of NEON.
#[derive(Clone, Copy)]
pub struct Array<T, const N: usize>([T; N]);

// SAFETY: plain arithmetic on arrays; needs no instruction set.
unsafe impl<T: Element, const N: usize> Vector for Array<T, N> {
    type Elem = T;
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; N])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller gives N readable elements.
        unsafe { Self(from.cast::<[T; N]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller gives N writable elements.
        unsafe { to.cast::<[T; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] += other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn sub(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] -= other.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn max(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] };
        }
        self
    }
    #[inline(always)]
    unsafe fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i] * factor.0[i] + addend.0[i];
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Array, Lanes, Vector};
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($type:ty, $elem:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $max:ident, $fma:ident) => {
            // SAFETY: each method is the instruction of that name; the trait's contract is
            // the instruction's.
            unsafe impl Vector for $type {
                type Elem = $elem;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn splat(value: $elem) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $elem) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $elem) {
                    // SAFETY: the trait's contract.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $max(self, other) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                    // SAFETY: the trait's contract.
                    unsafe { $fma(self, factor, addend) }
                }
            }
        };
    }
    vector!(
        __m256,
        f32,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_max_ps,
        _mm256_fmadd_ps
    );
    vector!(
        __m512,
        f32,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_max_ps,
        _mm512_fmadd_ps
    );
    vector!(
        __m256d,
        f64,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_max_pd,
        _mm256_fmadd_pd
    );
    vector!(
        __m512d,
        f64,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_max_pd,
        _mm512_fmadd_pd
    );

    impl Lanes for f32 {
        type Avx512 = __m512;
        type Avx2 = __m256;
        type Portable = Array<f32, 4>;
    }
    impl Lanes for f64 {
        type Avx512 = __m512d;
        type Avx2 = __m256d;
        type Portable = Array<f64, 2>;
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod other {
    use super::{Array, Lanes};

    impl Lanes for f32 {
        type Avx512 = Array<f32, 8>;
        type Avx2 = Array<f32, 8>;
        type Portable = Array<f32, 8>;
    }
    impl Lanes for f64 {
        type Avx512 = Array<f64, 4>;
        type Avx2 = Array<f64, 4>;
        type Portable = Array<f64, 4>;
    }
}

/// Compiles a function of plain loops once for each instruction set and calls the best at run
/// time: `multiversion! { fn name<T>(x: &[T], y: &mut [T]) -> T { … } }`, `T` any [`Element`].
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<$t: $crate::host::Element>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain<$t: $crate::host::Element>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$t: $crate::host::Element>($($arg: $ty),*) $(-> $ret)? {
                    plain::<$t>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512<$t: $crate::host::Element>($($arg: $ty),*) $(-> $ret)? {
                    plain::<$t>($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` found these instructions on this processor.
                    $crate::simd::Isa::Avx512 => unsafe { avx512::<$t>($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Isa::Avx2 => unsafe { avx2::<$t>($($arg),*) },
                    $crate::simd::Isa::Portable => plain::<$t>($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain::<$t>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

// The scale of an axis: where its ticks stand, what they say, where a value lies. Pure.

import Glibc

struct Axis {
  enum Scale {
    /// From 0.
    case linear
    /// Powers of two; of ten.
    case binary, decimal
  }

  var label: String
  var scale = Scale.linear
  /// Values are bytes, and their ticks say KiB, MiB, ….
  var isBytes = false

  /// Least and greatest value that it shows, on ticks; `values` are all that have to fit.
  func bounds(_ values: [Double]) -> ClosedRange<Double> {
    let least = values.min() ?? 1
    let most = values.max() ?? 1
    switch scale {
    case .linear:
      let step = Self.step(most)
      return 0...max(step, (most / step).rounded(.up) * step)
    case .binary: return Self.powers(2, least, most)
    case .decimal: return Self.powers(10, least, most)
    }
  }

  /// 0...1, from the start of the axis to its end.
  func place(_ value: Double, in bounds: ClosedRange<Double>) -> Double {
    switch scale {
    case .linear: (value - bounds.lowerBound) / (bounds.upperBound - bounds.lowerBound)
    case .binary, .decimal: log(max(value, 1e-12) / bounds.lowerBound) / log(bounds.upperBound / bounds.lowerBound)
    }
  }

  func ticks(in bounds: ClosedRange<Double>) -> [Double] {
    switch scale {
    case .linear:
      let step = Self.step(bounds.upperBound)
      return Array(stride(from: 0, through: bounds.upperBound + step / 2, by: step))
    case .binary: return Self.multiples(2, in: bounds, atMost: 10)
    case .decimal:
      let decades = Self.multiples(10, in: bounds, atMost: 8)
      // Two decades or less need something between.
      guard decades.count <= 3 else { return decades }
      return decades.flatMap { [$0, $0 * 2, $0 * 5] }.filter { $0 <= bounds.upperBound * 1.001 }
    }
  }

  func text(_ value: Double) -> String {
    let units = isBytes ? ["B", "KiB", "MiB", "GiB", "TiB"] : ["", "k", "M", "G"]
    let base = isBytes ? 1024.0 : 1000
    var (value, unit) = (value, 0)
    while value >= base, unit < units.count - 1 { (value, unit) = (value / base, unit + 1) }
    var digits = fixed(value, value < 10 ? 3 : 1)
    while digits.last == "0" { digits.removeLast() }
    if digits.last == "." { digits.removeLast() }
    return units[unit].isEmpty ? (digits.isEmpty ? "0" : digits) : "\(digits) \(units[unit])"
  }

  /// 1, 2 or 5 times a power of ten, four to ten of which make `most`.
  private static func step(_ most: Double) -> Double {
    guard most > 0 else { return 1 }
    let power = pow(10, floor(log10(most)))
    return switch most / power {
    case ..<2: power / 5
    case ..<5: power / 2
    default: power
    }
  }

  private static func powers(_ base: Double, _ least: Double, _ most: Double) -> ClosedRange<Double> {
    let first = floor(log(max(least, 1e-12)) / log(base) + 1e-9)
    let last = ceil(log(max(most, 1e-12)) / log(base) - 1e-9)
    return pow(base, first)...pow(base, max(last, first + 1))
  }

  private static func multiples(_ base: Double, in bounds: ClosedRange<Double>, atMost count: Int) -> [Double] {
    let powers = Int((log(bounds.upperBound / bounds.lowerBound) / log(base)).rounded())
    let step = max(1, (powers + count - 1) / count)
    return stride(from: 0, through: powers, by: step).map { bounds.lowerBound * pow(base, Double($0)) }
  }
}

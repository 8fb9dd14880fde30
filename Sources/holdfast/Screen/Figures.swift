// Numbers as people read them: three digits and a unit, never wider than seven columns.

/// `0`, `0.3`, `7.2`, `950`, `1.2k`, `12k`, `123k`, `4.5M`.
func compactCount(_ value: Double) -> String { compact(value, base: 1000, units: ["", "k", "M", "G", "T"]) }

/// `0 B`, `512 B`, `4.0 KiB`, `1.5 GiB`.
func compactBytes(_ bytes: Double) -> String {
  compact(bytes.rounded(), base: 1024, units: [" B", " KiB", " MiB", " GiB", " TiB", " PiB"], isWhole: true)
}

/// `850 ns`, `18 µs`, `1.2 ms`, `3.4 s`, `5 min`.
func compactSeconds(_ seconds: Double) -> String {
  let seconds = bounded(seconds)
  return switch seconds {
  case ..<1e-6: "\(digits(seconds * 1e9)) ns"
  case ..<1e-3: "\(digits(seconds * 1e6)) µs"
  case ..<1: "\(digits(seconds * 1e3)) ms"
  case ..<120: "\(digits(seconds)) s"
  case ..<7200: "\(Int(seconds / 60)) min"
  case ..<172_800: "\(Int(seconds / 3600)) h"
  default: "\(Int(seconds / 86_400)) d"
  }
}

/// `3 d 04:05:06`, `04:05:06`.
func clock(_ seconds: Double) -> String {
  let whole = Int(max(0, min(seconds, 1e12)))
  let parts = [whole / 3600 % 24, whole / 60 % 60, whole % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
  return (whole >= 86_400 ? "\(whole / 86_400) d " : "") + parts.joined(separator: ":")
}

private func compact(_ value: Double, base: Double, units: [String], isWhole: Bool = false) -> String {
  var value = bounded(value)
  var unit = 0
  // What would be shown as 1000 belongs to the next unit.
  while value >= base - 0.5, unit < units.count - 1 {
    value /= base
    unit += 1
  }
  return (unit == 0 && isWhole ? "\(Int(value))" : digits(value)) + units[unit]
}

/// Up to two digits of precision: `0`, `1.2`, `12`, `123`.
private func digits(_ value: Double) -> String {
  if value == 0 { return "0" }
  let tenths = Int((value * 10).rounded())
  return tenths < 100 ? "\(tenths / 10).\(tenths % 10)" : "\(Int(value.rounded()))"
}

/// What a daemon says may be anything; this can be made an integer.
private func bounded(_ value: Double) -> Double { value > 0 ? min(value, 1e15) : 0 }

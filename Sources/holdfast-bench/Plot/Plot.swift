// A picture of a few lines as SVG: no scripts, no fonts, no other files; light or dark as its reader likes. Pure.

struct Plot {
  struct Line {
    var name: String
    var points: [(x: Double, y: Double)]
    /// Drawn thicker: what the others are compared with.
    var isOurs = false
  }

  var title: String
  var x: Axis
  var y: Axis
  var lines: [Line]

  private static let width = 820.0
  private static let height = 440.0
  /// Of the area inside the axes.
  private static let left = 84.0
  private static let right = 590.0
  private static let top = 46.0
  private static let bottom = 384.0
  /// On white and on black; after holdfast's, in the order of the lines.
  private static let colors = [
    ("#d1242f", "#ff7b72"), ("#0969da", "#58a6ff"), ("#1a7f37", "#3fb950"), ("#9a6700", "#d29922"),
    ("#8250df", "#bc8cff"), ("#bf3989", "#f778ba"), ("#57606a", "#8b949e"), ("#0a7ea4", "#39c5cf"),
  ]

  var svg: String {
    let xBounds = x.bounds(lines.flatMap(\.points).map(\.x))
    let yBounds = y.bounds(lines.flatMap(\.points).map(\.y))
    func across(_ value: Double) -> Double { Self.left + x.place(value, in: xBounds) * (Self.right - Self.left) }
    func up(_ value: Double) -> Double { Self.bottom - y.place(value, in: yBounds) * (Self.bottom - Self.top) }

    var text = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(number(Self.width)) \(number(Self.height))" \
      width="\(number(Self.width))" height="\(number(Self.height))" role="img">
      <title>\(escaped(title))</title>
      <style>
      \(style)</style>
      <rect class="paper" width="100%" height="100%"/>
      <text class="title" x="\(number(Self.left))" y="26">\(escaped(title))</text>

      """
    for tick in x.ticks(in: xBounds) {
      let at = number(across(tick))
      text += "<path class=\"grid\" d=\"M\(at) \(number(Self.top))V\(number(Self.bottom))\"/>\n"
      text += "<text x=\"\(at)\" y=\"\(number(Self.bottom + 20))\" text-anchor=\"middle\">\(x.text(tick))</text>\n"
    }
    for tick in y.ticks(in: yBounds) {
      let at = up(tick)
      text += "<path class=\"grid\" d=\"M\(number(Self.left)) \(number(at))H\(number(Self.right))\"/>\n"
      text +=
        "<text x=\"\(number(Self.left - 8))\" y=\"\(number(at + 4))\" text-anchor=\"end\">\(y.text(tick))</text>\n"
    }
    let middle = (Self.left + Self.right) / 2
    text += "<text x=\"\(number(middle))\" y=\"\(number(Self.height - 14))\" text-anchor=\"middle\">"
    text += "\(escaped(x.label))</text>\n"
    let half = number((Self.top + Self.bottom) / 2)
    text += "<text transform=\"translate(18 \(half)) rotate(-90)\" text-anchor=\"middle\">\(escaped(y.label))</text>\n"
    text += "<path class=\"axis\" d=\"M\(number(Self.left)) \(number(Self.top))V\(number(Self.bottom))"
    text += "H\(number(Self.right))\"/>\n"
    for (index, line) in lines.enumerated() {
      let places = line.points.map { (across($0.x), up($0.y)) }
      let path = places.map { "\(number($0.0)) \(number($0.1))" }.joined(separator: "L")
      let color = "c\(index % Self.colors.count)"
      if !path.isEmpty { text += "<path class=\"line \(color)\(line.isOurs ? " ours" : "")\" d=\"M\(path)\"/>\n" }
      for place in places { text += mark(index, place.0, place.1) }
      let height = Self.top + 8 + Double(index) * 24
      text += mark(index, Self.right + 22, height)
      text += "<text x=\"\(number(Self.right + 34))\" y=\"\(number(height + 4))\">\(escaped(line.name))</text>\n"
    }
    return text + "</svg>\n"
  }

  /// Lines can be told apart without colours.
  private func mark(_ index: Int, _ x: Double, _ y: Double) -> String {
    let shapes = ["m-4-4h8v8h-8z", "m0-5l5 9h-10z", "m0-5l5 5-5 5-5-5z", "m-4-4l8 8m0-8l-8 8", "m0-5v10m-5-5h10"]
    let kind = "mark c\(index % Self.colors.count)"
    if index % 6 == 0 { return "<circle class=\"\(kind)\" cx=\"\(number(x))\" cy=\"\(number(y))\" r=\"4\"/>\n" }
    return "<path class=\"\(kind)\" d=\"M\(number(x)) \(number(y))\(shapes[index % 6 - 1])\"/>\n"
  }

  private var style: String {
    func colors(_ color: ((String, String)) -> String) -> String {
      Self.colors.enumerated().map { ".c\($0.offset) { stroke: \(color($0.element)) }\n" }
        .joined()
    }
    return """
      text { font: 13px system-ui, sans-serif; fill: #24292f }
      .title { font-size: 15px; font-weight: 600 }
      .paper { fill: #ffffff }
      .grid { stroke: #d8dee4; fill: none }
      .axis { stroke: #57606a; fill: none }
      .line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
      .ours { stroke-width: 3 }
      .mark { fill: #ffffff; stroke-width: 1.8 }
      \(colors(\.0))@media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .paper { fill: #0d1117 }
      .grid { stroke: #30363d }
      .axis { stroke: #8b949e }
      .mark { fill: #0d1117 }
      \(colors(\.1))}

      """
  }

  private func number(_ value: Double) -> String {
    let text = fixed(value, 1)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  private func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
}

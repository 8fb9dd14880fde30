// The head of an HTTP/1.1 request (RFC 9112), as far as an endpoint that only answers GET and HEAD needs it. Pure: bytes in, a
// request or a refusal out. Nothing that a peer sends traps, and nothing sizes an allocation: the head is bounded.

package struct HTTPRequest: Sendable, Equatable {
  package enum Method: Sendable, Equatable { case get, head }

  package var method: Method
  /// Decoded, without the query.
  package var path: String
  /// Decoded; a name that comes twice has its first value.
  package var query: [String: String]
  /// As it was sent; nil from HTTP/1.0 clients without one.
  package var host: String?
  /// A browser sends it for a page of another site (Sec-Fetch-Site).
  package var isOfAnotherSite: Bool
  /// A browser goes there, as by a link (Sec-Fetch-Mode).
  package var isNavigation: Bool

  /// Pages of other sites may link to the dashboard, and fetch nothing.
  package var mayBeAnswered: Bool { !isOfAnotherSite || isNavigation && path == "/" }

  package init(
    method: Method, path: String, query: [String: String] = [:], host: String? = nil, isOfAnotherSite: Bool = false,
    isNavigation: Bool = false
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.host = host
    self.isOfAnotherSite = isOfAnotherSite
    self.isNavigation = isNavigation
  }

  /// What the bytes that have come so far are.
  package enum Progress: Sendable, Equatable {
    case needsMore
    case complete(HTTPRequest)
    /// With this status; what follows is not looked at.
    case refused(HTTPStatus)
  }

  /// Bytes of the longest head that is read. A browser sends less than 2 KiB.
  package static let headBytesMax = 8192
  private static let targetBytesMax = 2048
  private static let fieldsMax = 100

  /// Looks at everything received so far, from the start.
  package static func parse(_ bytes: [UInt8]) -> Progress {
    var lines = LineReader(bytes: bytes)
    guard let first = lines.next() else { return tooLongOrMore(bytes) }
    let start: RequestLine
    switch RequestLine.parse(first) {
    case .refused(let status): return .refused(status)
    case .line(let line): start = line
    }
    var hosts: [String] = []
    var isOfAnotherSite = false
    var isNavigation = false
    var fields = 0
    while true {
      guard let line = lines.next() else { return tooLongOrMore(bytes) }
      if line.isEmpty { break }
      fields += 1
      guard fields <= fieldsMax else { return .refused(.headTooLarge) }
      guard let (name, value) = field(line) else { return .refused(.badRequest) }
      if name == "host" { hosts.append(value) }
      if name == "sec-fetch-site", value == "cross-site" || value == "same-site" { isOfAnotherSite = true }
      if name == "sec-fetch-mode", value == "navigate" { isNavigation = true }
      // No body belongs to what we answer.
      if name == "transfer-encoding" || (name == "content-length" && value != "0") { return .refused(.badRequest) }
    }
    if lines.position > headBytesMax { return .refused(.headTooLarge) }
    guard hosts.count <= 1, !start.needsHost || hosts.count == 1 else { return .refused(.badRequest) }
    return .complete(
      HTTPRequest(
        method: start.method, path: start.path, query: start.query, host: hosts.first,
        isOfAnotherSite: isOfAnotherSite, isNavigation: isNavigation))
  }

  private static func tooLongOrMore(_ bytes: [UInt8]) -> Progress {
    bytes.count >= headBytesMax ? .refused(.headTooLarge) : .needsMore
  }

  /// `Name: value`; nil when it is not one.
  private static func field(_ line: ArraySlice<UInt8>) -> (name: String, value: String)? {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex else { return nil }
    let name = line[..<colon]
    guard name.allSatisfy(isTokenByte) else { return nil }
    var value = line[line.index(after: colon)...]
    while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
    while let last = value.last, last == 0x20 || last == 0x09 { value = value.dropLast() }
    guard value.allSatisfy({ $0 == 0x09 || $0 >= 0x20 && $0 != 0x7f }) else { return nil }
    return (String(decoding: name, as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
  }

  /// A byte of a token (RFC 9110, 5.6.2).
  fileprivate static func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
    }
  }

  /// `GET /path?a=b HTTP/1.1`
  private struct RequestLine {
    var method: Method
    var path: String
    var query: [String: String]
    var needsHost: Bool

    enum Parsed {
      case line(RequestLine)
      case refused(HTTPStatus)
    }

    static func parse(_ line: ArraySlice<UInt8>) -> Parsed {
      let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
      guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(isTokenByte) else { return .refused(.badRequest) }
      let version = String(decoding: parts[2], as: UTF8.self)
      guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
        return .refused(version.hasPrefix("HTTP/") ? .versionNotSupported : .badRequest)
      }
      let method: Method
      switch String(decoding: parts[0], as: UTF8.self) {
      case "GET": method = .get
      case "HEAD": method = .head
      default: return .refused(.methodNotAllowed)
      }
      guard parts[1].count <= targetBytesMax else { return .refused(.targetTooLong) }
      guard parts[1].first == UInt8(ascii: "/"), parts[1].allSatisfy({ (0x21...0x7e).contains($0) }) else {
        return .refused(.badRequest)
      }
      let halves = parts[1].split(separator: UInt8(ascii: "?"), maxSplits: 1, omittingEmptySubsequences: false)
      guard let path = percentDecoded(halves[0], plusIsSpace: false) else { return .refused(.badRequest) }
      var query: [String: String] = [:]
      for pair in halves.count == 2 ? halves[1].split(separator: UInt8(ascii: "&")) : [] {
        let sides = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = percentDecoded(sides[0], plusIsSpace: true),
          let value = percentDecoded(sides.count == 2 ? sides[1] : [], plusIsSpace: true)
        else { return .refused(.badRequest) }
        if query[name] == nil { query[name] = value }
      }
      return .line(RequestLine(method: method, path: path, query: query, needsHost: version == "HTTP/1.1"))
    }
  }
}

/// Lines that end with CR LF, or LF alone (RFC 9112, 2.2).
private struct LineReader {
  let bytes: [UInt8]
  private(set) var position = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func next() -> ArraySlice<UInt8>? {
    guard let end = bytes[position...].firstIndex(of: 0x0a) else { return nil }
    var line = bytes[position..<end]
    position = end + 1
    if line.last == 0x0d { line = line.dropLast() }
    return line
  }
}

/// Nil when an escape is broken, or what comes out is not UTF-8 or has control characters.
private func percentDecoded(_ bytes: ArraySlice<UInt8>, plusIsSpace: Bool) -> String? {
  var decoded: [UInt8] = []
  var rest = bytes
  while let byte = rest.popFirst() {
    switch byte {
    case UInt8(ascii: "%"):
      guard let high = rest.popFirst().flatMap(hexValue), let low = rest.popFirst().flatMap(hexValue) else {
        return nil
      }
      decoded.append(high << 4 | low)
    case UInt8(ascii: "+") where plusIsSpace: decoded.append(0x20)
    default: decoded.append(byte)
    }
  }
  guard let text = String(validating: decoded, as: UTF8.self), !text.unicodeScalars.contains(where: { $0.value < 0x20 })
  else { return nil }
  return text
}

private func hexValue(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}

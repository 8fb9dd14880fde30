// Answers of the metrics endpoint.

package enum HTTPStatus: Int, Sendable, CaseIterable {
  case ok = 200
  case badRequest = 400
  case forbidden = 403
  case notFound = 404
  case methodNotAllowed = 405
  case requestTimeout = 408
  case targetTooLong = 414
  case misdirected = 421
  case headTooLarge = 431
  case unavailable = 503
  case versionNotSupported = 505

  package var reason: String {
    switch self {
    case .ok: "OK"
    case .badRequest: "Bad Request"
    case .forbidden: "Forbidden"
    case .notFound: "Not Found"
    case .methodNotAllowed: "Method Not Allowed"
    case .requestTimeout: "Request Timeout"
    case .targetTooLong: "URI Too Long"
    case .misdirected: "Misdirected Request"
    case .headTooLarge: "Request Header Fields Too Large"
    case .unavailable: "Service Unavailable"
    case .versionNotSupported: "HTTP Version Not Supported"
    }
  }
}

package struct HTTPResponse: Sendable, Equatable {
  package enum Content: String, Sendable {
    case metrics = "text/plain; version=0.0.4; charset=utf-8"
    case text = "text/plain; charset=utf-8"
    case json = "application/json"
    case html = "text/html; charset=utf-8"
    case svg = "image/svg+xml"
  }

  package var status: HTTPStatus
  package var content: Content
  package var body: String

  package init(_ content: Content, _ body: String) {
    status = .ok
    self.content = content
    self.body = body
  }

  /// An error, in words.
  package init(_ status: HTTPStatus, _ text: String? = nil) {
    self.status = status
    content = .text
    body = "\(status.rawValue) \(status.reason)\(text.map { ": \($0)" } ?? "")\n"
  }

  /// All of it; to HEAD without the body. The connection ends behind it.
  package func bytes(to method: HTTPRequest.Method) -> [UInt8] {
    let body = Array(body.utf8)
    var head = "HTTP/1.1 \(status.rawValue) \(status.reason)\r\n"
    head += "Content-Type: \(content.rawValue)\r\nContent-Length: \(body.count)\r\nConnection: close\r\n"
    head += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    // No page of another site may take it for a picture or a script.
    head += "Cross-Origin-Resource-Policy: same-origin\r\n"
    if status == .methodNotAllowed { head += "Allow: GET, HEAD\r\n" }
    if content == .html || content == .svg {
      // The page is made of itself alone, and nobody may frame it.
      head +=
        "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        + "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    }
    head += "\r\n"
    switch method {
    case .get: return Array(head.utf8) + body
    case .head: return Array(head.utf8)
    }
  }
}

/// Whether a client that names `host` means us. A page of another site may make a browser connect to this machine under a name of
/// its own (DNS rebinding) and read the answers; it cannot do so under an address, "localhost", or the name of this machine.
/// - Parameter machine: its name, with its domain or without.
package func isOurHost(_ host: String, machine: String? = nil) -> Bool {
  if host.hasPrefix("[") { return host.contains("]") }
  let name = host.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)[0].lowercased()
  if name == "localhost" { return true }
  if let machine = machine?.lowercased(), !machine.isEmpty, !name.isEmpty,
    name == machine || name == machine.prefix(while: { $0 != "." })
  {
    return true
  }
  let numbers = name.split(separator: ".", omittingEmptySubsequences: false)
  return numbers.count == 4 && numbers.allSatisfy { UInt8($0) != nil }
}

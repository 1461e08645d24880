"""Reads every stored message of a subject over a plain socket, as a client of another language would.

nats_client.py HOST:PORT STREAM SUBJECT: prints one JSON object for each message, its headers.
"""
import json
import socket
import sys

host, port = sys.argv[1].rsplit(":", 1)
stream, subject = sys.argv[2:4]
connection = socket.create_connection((host, int(port)), timeout=30)
incoming = connection.makefile("rb")


def send(text):
    connection.sendall(text.encode())


def messages():
    while True:
        words = incoming.readline().decode().split()
        if not words:
            sys.exit("the server has closed the connection")
        if words[0] == "PING":
            send("PONG\r\n")
        elif words[0] == "-ERR":
            sys.exit(" ".join(words))
        elif words[0] in ("MSG", "HMSG"):
            size = int(words[-1])
            head = int(words[-2]) if words[0] == "HMSG" else 0
            body = incoming.read(size + 2)
            yield words, body[:head].decode(), body[head:-2]


consumer = {"deliver_subject": "here", "ack_policy": "none", "deliver_policy": "all", "filter_subject": subject}
request = json.dumps({"stream_name": stream, "config": consumer})
send('CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB here 1\r\nSUB answer 2\r\n')
send(f"PUB $JS.API.CONSUMER.CREATE.{stream} answer {len(request)}\r\n{request}\r\n")
pending = None
while pending != 0:
    for words, head, body in messages():
        if words[1] == "answer":
            answer = json.loads(body)
            if "error" in answer:
                sys.exit(str(answer["error"]))
            pending = answer["num_pending"] if pending is None else pending
            break
        lines = head.split("\r\n")[1:]
        print(json.dumps(dict(line.split(": ", 1) for line in lines if line)))
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
        pending = int(words[3].rsplit(".", 1)[1])
        break

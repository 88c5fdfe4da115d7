"""What an invoice is: identifiers, reading and the check before sending. Bytes in, values out; no clock."""

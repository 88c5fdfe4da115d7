"""The KSeF API as this project uses it: knows no queue and no database.

``client.Ksef`` is the door; ``shapes`` are its answers; ``statuses`` says what KSeF's codes mean for a document;
``limits`` counts calls; ``auth`` logs in; ``crypto`` encrypts; ``upo`` reads and checks receipts; ``wire`` is the only
place that speaks HTTP and the only one that turns its troubles into ``errors``.
"""

"""What stands on the printed page, and how it is set: an invoice's tree to blocks, blocks to PDF."""

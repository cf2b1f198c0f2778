"""What the processes of one gate share: used proofs and one-time tickets."""
